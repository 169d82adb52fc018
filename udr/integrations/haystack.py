"""Haystack: a component that retrieves the demonstrations for each run of a pipeline."""

from collections.abc import Mapping
from typing import Any, Self, Unpack

from udr.errors import MissingExtraError
from udr.integrations.demos import location, opened
from udr.integrations.selector import Selector, described
from udr.prompts import Order
from udr.retrieval import DEFAULT_K, AsyncDemonstrationSource, RetrievedDemonstration, SelectionOptions

try:
    from haystack import Document, component, default_to_dict
except ImportError as error:
    raise MissingExtraError("haystack-ai", "haystack") from error


@component
class DemonstrationDocuments:
    """Retrieves a task's demonstrations as documents, for a ``PromptBuilder`` or ``ChatPromptBuilder``.

    A document's content is the demonstration as udr's prompts show it, its score the similarity, and its meta has the
    input's ``fields``, the ``target``, the ``task`` and the row's ``id`` and ``metadata``. ``to_dict`` keeps where the
    source is, never a key; ``from_dict`` opens it.

    Args:
        source: a ``Retriever`` or a ``Client``; with an ``AsyncClient``, only asynchronous pipelines run.
        task: the task of the demonstrations.
        k: how many.
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
        order: Order | str = Order.NEAREST_LAST,
        **options: Unpack[SelectionOptions],
    ) -> None:
        self._selector = Selector(source=source, task=task, k=k, order=order, options=options)

    @component.output_types(documents=list[Document])
    def run(self, query: str | dict[str, Any]) -> dict[str, list[Document]]:
        """Return the documents for a query: its text, if the task has one field, or its fields by name.

        Raises:
            InvalidInputError: the query does not fit the task.
            TypeError: the source is asynchronous.
            UdrError: the source cannot answer.
        """
        return {"documents": list(map(_document, self._selector.select(query)))}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str | dict[str, Any]) -> dict[str, list[Document]]:
        """Return the documents for a query, from any source, without blocking the event loop."""
        return {"documents": list(map(_document, await self._selector.aselect(query)))}

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a saved pipeline has it."""
        parameters: dict[str, Any] = self._selector.to_json()
        options = parameters.pop("options")
        saved: dict[str, Any] = default_to_dict(self, source=location(self._selector.source), **parameters, **options)
        return saved

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return a saved component, with its source opened; ``ArtifactError`` if it was saved without one."""
        parameters = dict(data["init_parameters"])
        return cls(opened(parameters.pop("source")), **parameters)


def _document(demonstration: RetrievedDemonstration) -> Document:
    name = f"{demonstration.task}/{demonstration.id}"
    return Document(id=name, content=demonstration.text, meta=described(demonstration), score=demonstration.similarity)
