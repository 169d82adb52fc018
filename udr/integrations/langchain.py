"""LangChain: an example selector over an index, and a few-shot template that leaves data as it is."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Unpack

from udr.data import value_text
from udr.errors import InvalidInputError, MissingExtraError
from udr.integrations.selector import Selector
from udr.prompts import Order
from udr.retrieval import AsyncDemonstrationSource, RetrievedDemonstration, SelectionOptions

try:
    from langchain_core.example_selectors.base import BaseExampleSelector
    from langchain_core.prompts.few_shot import FewShotPromptTemplate
    from langchain_core.prompts.string import DEFAULT_FORMATTER_MAPPING
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error


class DemonstrationSelector(BaseExampleSelector):
    """Selects a task's demonstrations for each prompt: LangChain's ``BaseExampleSelector``.

    An example is a dict of the demonstration's input fields and its target, all of them text, worded as udr words
    them: nothing for null, commas between the items of a list. Both ``FewShotPromptTemplate`` and
    ``FewShotChatMessagePromptTemplate`` take it; only the second, and ``VerbatimFewShotPromptTemplate``, show data
    with braces as it is.

    Args:
        source: a ``Retriever`` or a ``Client``; an ``AsyncClient`` answers ``aselect_examples`` alone.
        task: the task whose demonstrations to take.
        k: how many.
        input_keys: the variables that make the query, named as the task's fields; None takes all that the template
            passes, which must then be the task's fields.
        target_key: what an example calls its target.
        order: ``nearest_last``, beside the query, as udr's own prompts have it; ``nearest_first``, or another of
            ``udr.order.Order``.
        options: how demonstrations are chosen, see ``udr.retrieval.RetrievalRequest``.

    Raises:
        ConfigError: there is no such order or option.
    """

    def __init__(
        self,
        source: AsyncDemonstrationSource,
        task: str,
        k: int = 8,
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
            TypeError: the source can only be awaited.
            UdrError: the source cannot answer.
        """
        return [self._example(found) for found in self._selector.select(self._query(input_variables))]

    async def aselect_examples(self, input_variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the examples for a prompt's variables; the event loop goes on meanwhile.

        Raises:
            InvalidInputError: as ``select_examples``.
            UdrError: the source cannot answer.
        """
        return [self._example(found) for found in await self._selector.aselect(self._query(input_variables))]

    def add_example(self, example: Mapping[str, Any]) -> NoReturn:
        """Refuse: an index is never changed.

        Raises:
            NotImplementedError: always; the message says how rows are added.
        """
        raise NotImplementedError(
            f"an index is never changed: add the row to the train.jsonl of task {self._selector.task!r}, "
            "run: udr index build, then open the index again or let the service reload it"
        )

    async def aadd_example(self, example: Mapping[str, Any]) -> NoReturn:
        """Refuse, as ``add_example``."""
        self.add_example(example)

    def _query(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        if self._input_keys is None:
            return dict(variables)
        missing = [name for name in self._input_keys if name not in variables]
        if missing:
            raise InvalidInputError(
                f"variable {missing[0]!r} of input_keys is missing; found {', '.join(map(repr, variables)) or 'none'}"
            )
        return {name: variables[name] for name in self._input_keys}

    def _example(self, found: RetrievedDemonstration) -> dict[str, str]:
        if self._target_key in found.input:
            raise InvalidInputError(
                f"task {found.task!r} has an input field {self._target_key!r}; name the target by another target_key"
            )
        return {name: value_text(value) for name, value in found.input.items()} | {self._target_key: found.target}


class VerbatimFewShotPromptTemplate(FewShotPromptTemplate):
    """A ``FewShotPromptTemplate`` whose examples come out as they went in.

    LangChain's own joins prefix, formatted examples and suffix, and formats the result once more: braces in an
    example are taken for variables there, and fail, vanish or are filled in. Here prefix and suffix are formatted each
    by itself, and every example once, by ``example_prompt``. Arguments are those of ``FewShotPromptTemplate``.
    """

    # Else type checkers take the fields for the arguments, and ask for those that LangChain works out by itself.
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)

    def format(self, **kwargs: object) -> str:
        """Return the prompt for these variables."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        examples = self._get_examples(**variables)
        return self._joined([self.example_prompt.format(**self._shown(one)) for one in examples], variables)

    async def aformat(self, **kwargs: object) -> str:
        """Return the prompt for these variables; the event loop goes on while examples are selected."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        examples = await self._aget_examples(**variables)
        return self._joined([await self.example_prompt.aformat(**self._shown(one)) for one in examples], variables)

    def _shown(self, example: Mapping[str, Any]) -> dict[str, Any]:
        return {name: example[name] for name in self.example_prompt.input_variables}

    def _joined(self, examples: Sequence[str], variables: Mapping[str, Any]) -> str:
        formatted = DEFAULT_FORMATTER_MAPPING[self.template_format]
        templates = (self.prefix, self.suffix)
        prefix, suffix = (formatted(template, **variables) if template else "" for template in templates)
        return self.example_separator.join(part for part in (prefix, *examples, suffix) if part)
