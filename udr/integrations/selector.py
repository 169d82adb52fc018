"""What the integrations share: the demonstrations of a source for one call, in the order of a prompt."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from udr.data import Filter, value_text
from udr.prompts import Order, arranged, one_of
from udr.retrieval import (
    DEFAULT_K,
    AsyncDemonstrationSource,
    DefaultK,
    DemonstrationSource,
    RetrievedDemonstration,
    SelectionOptions,
    check_names,
)
from udr.types import Fields, Json


@dataclass(frozen=True, kw_only=True)
class Selector:
    """Retrieves a task's demonstrations from a source, with the same options for each call.

    Attributes:
        source: a retriever or a client.
        task: the task of the demonstrations.
        k: how many.
        order: their order, see ``udr.prompts.Order``; a shuffle depends only on the input.
        options: how they are chosen, see ``udr.RetrievalRequest``.

    Raises:
        InvalidInputError: an unknown order.
        ConfigError: an unknown option.
    """

    source: AsyncDemonstrationSource
    task: str
    k: int
    order: Order | str
    options: SelectionOptions

    def __post_init__(self) -> None:
        one_of(Order, self.order)
        check_names(self.options, SelectionOptions)

    def select(self, input: Fields | str) -> list[RetrievedDemonstration]:
        """Return the demonstrations for an input.

        Raises:
            TypeError: the source is asynchronous.
            UdrError: the source cannot answer.
        """
        retrieve = getattr(self.source, "retrieve", None)
        if retrieve is None or inspect.iscoroutinefunction(retrieve):
            raise TypeError(
                f"{self.source!r} can only be awaited; call the asynchronous method, or pass a Retriever or a Client"
            )
        source = cast("DemonstrationSource", self.source)
        return self._arranged(source.retrieve(self.task, input, self.k, **self.options), input)

    async def aselect(self, input: Fields | str) -> list[RetrievedDemonstration]:
        """Return the demonstrations for an input, from any source, without blocking the event loop."""
        return self._arranged(await self.source.aretrieve(self.task, input, self.k, **self.options), input)

    def to_json(self) -> dict[str, Json]:
        """Return all but the source, as JSON; without ``k`` if it is the default, which a service may lower."""
        options: dict[str, Any] = dict(self.options)
        if options.get("filter") is not None:
            options["filter"] = Filter.of(options["filter"]).to_json()
        if not isinstance(excluded := options.get("exclude"), str | None):
            options["exclude"] = list(excluded)
        k = {} if isinstance(self.k, DefaultK) else {"k": self.k}
        return {"task": self.task, **k, "order": str(self.order), "options": options}

    @classmethod
    def from_json(cls, keys: Mapping[str, Any], source: AsyncDemonstrationSource) -> "Selector":
        """Return the selector that ``to_json`` describes, over a source."""
        return cls(
            source=source,
            task=keys["task"],
            k=keys.get("k", DEFAULT_K),
            order=keys["order"],
            options=keys["options"],
        )

    def _arranged(
        self, retrieval: Sequence[RetrievedDemonstration], input: Fields | str
    ) -> list[RetrievedDemonstration]:
        query = input if isinstance(input, str) else "\n".join(map(value_text, input.values()))
        positions = arranged(Order(self.order), retrieval, query, seed=0)(range(len(retrieval)))
        return [retrieval[position] for position in positions]


def described(demonstration: RetrievedDemonstration) -> dict[str, Any]:
    """Return what a document of another library says of a demonstration beside its text and similarity."""
    return {
        "id": demonstration.id,
        "task": demonstration.task,
        "fields": demonstration.fields,
        "target": demonstration.target,
        "metadata": dict(demonstration.metadata),
    }
