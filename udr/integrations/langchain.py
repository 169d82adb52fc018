"""LangChain: an example selector over an index, and a few-shot template that keeps braces in data."""

import asyncio
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from udr.data import value_text
from udr.errors import InvalidInputError, MissingExtraError
from udr.integrations.selector import Selector
from udr.prompts import Order
from udr.retrieval import DEFAULT_K, AsyncDemonstrationSource, RetrievedDemonstration, SelectionOptions
from udr.types import Row

try:
    from langchain_core.example_selectors.base import BaseExampleSelector
    from langchain_core.prompts.few_shot import FewShotPromptTemplate
    from langchain_core.prompts.string import DEFAULT_FORMATTER_MAPPING
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error


class DemonstrationSelector(BaseExampleSelector):
    """Selects a task's demonstrations for each prompt: LangChain's ``BaseExampleSelector``.

    An example is a dict of the demonstration's input fields and its target, as text: empty for null, commas between
    the items of a list. ``FewShotPromptTemplate`` and ``FewShotChatMessagePromptTemplate`` accept it; of these only the
    second, and ``VerbatimFewShotPromptTemplate``, keep braces in data.

    Args:
        source: a ``Retriever`` or a ``Client``; an ``AsyncClient`` supports only ``aselect_examples``.
        task: the task of the demonstrations.
        k: how many.
        input_keys: the variables of the query, named as the task's fields; None uses all variables of the template.
        target_key: the key of the target in an example.
        order: ``nearest_last`` (next to the query, as in udr's own prompts), or another of ``udr.prompts.Order``.
        options: how demonstrations are chosen, see ``udr.RetrievalRequest``.

    Raises:
        InvalidInputError: an unknown order.
        ConfigError: an unknown option.
    """

    def __init__(
        self,
        source: AsyncDemonstrationSource,
        task: str,
        k: int = DEFAULT_K,
        *,
        input_keys: Sequence[str] | None = None,
        target_key: str = "target",
        order: Order | str = Order.NEAREST_LAST,
        **options: Unpack[SelectionOptions],
    ) -> None:
        self._selector = Selector(source=source, task=task, k=k, order=order, options=options)
        self._input_keys = input_keys
        self._target_key = target_key

    def select_examples(self, input_variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the examples for a prompt's variables.

        Raises:
            InvalidInputError: a variable is missing, or the variables are not the task's fields.
            TypeError: the source is asynchronous.
            UdrError: the source cannot answer.
        """
        return list(map(self._example, self._selector.select(self._query(input_variables))))

    async def aselect_examples(self, input_variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the examples for a prompt's variables, from any source, without blocking the event loop."""
        return list(map(self._example, await self._selector.aselect(self._query(input_variables))))

    def add_example(self, example: Mapping[str, Any]) -> str:
        """Put an example into the task's pool, where the next request finds it, and return its id.

        The id is made of the example's content, so an example that is added again changes nothing.

        Args:
            example: the task's fields and the target, as ``select_examples`` returns them; but the choices of a
                multiple-choice row as a list.

        Raises:
            InvalidInputError: the example has no target, or does not fit the task.
            TypeError: the source is asynchronous, or takes no rows.
            UdrError: the source cannot write; see ``Retriever.put`` and ``Client.put``.
        """
        row = self._row(example)
        self._put()(self._selector.task, row)
        return row.id

    async def aadd_example(self, example: Mapping[str, Any]) -> str:
        """Put an example into the task's pool, as ``add_example``, with any source and without blocking."""
        row, put = self._row(example), self._put(awaited=True)
        if inspect.iscoroutinefunction(put):
            await put(self._selector.task, row)
        else:
            await asyncio.to_thread(put, self._selector.task, row)
        return row.id

    def _row(self, example: Mapping[str, Any]) -> Row:
        if self._target_key not in example:
            given = ", ".join(map(repr, example)) or "none"
            raise InvalidInputError(f"the example has no {self._target_key!r}, its target; found {given}")
        content = json.dumps(example, sort_keys=True, default=str)
        input = {name: value for name, value in example.items() if name != self._target_key}
        choices = input.pop("choices") if isinstance(input.get("choices"), list | tuple) else ()
        id = hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:16]
        return Row(id=id, input=input, target=example[self._target_key], choices=tuple(choices))

    def _put(self, *, awaited: bool = False) -> Callable[..., Any]:
        source = self._selector.source
        put: Callable[..., Any] | None = getattr(source, "put", None)
        if put is None:
            raise TypeError(f"{source!r} takes no rows; pass a Retriever or a client")
        if inspect.iscoroutinefunction(put) and not awaited:
            raise TypeError(f"{source!r} can only be awaited; call aadd_example, or pass a Retriever or a Client")
        return put

    def _query(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        names = variables if self._input_keys is None else self._input_keys
        for name in names:
            if name not in variables:
                given = ", ".join(map(repr, variables)) or "none"
                raise InvalidInputError(f"variable {name!r} of input_keys is missing; found {given}")
        return {name: variables[name] for name in names}

    def _example(self, demonstration: RetrievedDemonstration) -> dict[str, str]:
        fields = demonstration.fields
        if self._target_key in fields:
            raise InvalidInputError(
                f"task {demonstration.task!r} has an input field {self._target_key!r}; choose another target_key"
            )
        example = {name: value_text(value) for name, value in fields.items()}
        return example | {self._target_key: demonstration.target}


class VerbatimFewShotPromptTemplate(FewShotPromptTemplate):
    """A ``FewShotPromptTemplate``, with the same arguments, that shows examples unchanged.

    LangChain's own formats the examples twice, so that braces in an example become variables: they raise, vanish or
    are replaced. Here prefix, suffix and each example are formatted once, by themselves.
    """

    # Without this, type checkers require arguments that LangChain derives by itself.
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)

    def format(self, **kwargs: object) -> str:
        """Return the prompt for these variables."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        examples = [self.example_prompt.format(**self._shown(e)) for e in self._get_examples(**variables)]
        return self._joined(examples, variables)

    async def aformat(self, **kwargs: object) -> str:
        """Return the prompt for these variables, without blocking the event loop."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        examples = await self._aget_examples(**variables)
        return self._joined([await self.example_prompt.aformat(**self._shown(e)) for e in examples], variables)

    def _shown(self, example: Mapping[str, Any]) -> dict[str, Any]:
        return {name: example[name] for name in self.example_prompt.input_variables}

    def _joined(self, examples: Sequence[str], variables: Mapping[str, Any]) -> str:
        formatted = DEFAULT_FORMATTER_MAPPING[self.template_format]
        templates = (self.prefix, self.suffix)
        prefix, suffix = (formatted(template, **variables) if template else "" for template in templates)
        return self.example_separator.join(part for part in (prefix, *examples, suffix) if part)
