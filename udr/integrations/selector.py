"""What the integrations share: asking a source for a call's demonstrations, in the order that a prompt shows them."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from udr.data import value_text
from udr.errors import ConfigError
from udr.prompts import Order, arranged
from udr.retrieval import AsyncDemonstrationSource, DemonstrationSource, RetrievedDemonstration, SelectionOptions
from udr.types import Fields


@dataclass(frozen=True, kw_only=True)
class Selector:
    """Asks one source about one task, always in the same way.

    Attributes:
        source: a retriever or a client.
        task: the task whose demonstrations to take.
        k: how many.
        order: the order in which they come, see ``udr.order.Order``; a shuffle is one of the input alone.
        options: how they are chosen, see ``udr.retrieval.RetrievalRequest``.

    Raises:
        ConfigError: there is no such order or option.
    """

    source: AsyncDemonstrationSource
    task: str
    k: int
    order: Order | str
    options: SelectionOptions

    def __post_init__(self) -> None:
        if self.order not in list(Order):
            raise ConfigError(f"the order must be one of {', '.join(Order)}, found {self.order!r}")
        known = SelectionOptions.__annotations__
        for name in self.options:
            if name not in known:
                raise ConfigError(f"a selection has no option {name!r}; it has {', '.join(known)}")

    def select(self, input: Fields) -> list[RetrievedDemonstration]:
        """Return the demonstrations for an input.

        Raises:
            TypeError: the source can only be awaited.
            UdrError: the source cannot answer.
        """
        retrieve = getattr(self.source, "retrieve", None)
        if retrieve is None or inspect.iscoroutinefunction(retrieve):
            raise TypeError(
                f"{self.source!r} can only be awaited; call the asynchronous method, or give a Retriever or a Client"
            )
        source = cast("DemonstrationSource", self.source)
        return self._arranged(source.retrieve(self.task, input, self.k, **self.options), input)

    async def aselect(self, input: Fields) -> list[RetrievedDemonstration]:
        """Return what ``select`` does, from any source; the event loop goes on meanwhile.

        Raises:
            UdrError: the source cannot answer.
        """
        return self._arranged(await self.source.aretrieve(self.task, input, self.k, **self.options), input)

    def _arranged(self, found: Sequence[RetrievedDemonstration], input: Fields) -> list[RetrievedDemonstration]:
        query = "\n".join(map(value_text, input.values()))
        return [found[n] for n in arranged(Order(self.order), found, query, seed=0)(range(len(found)))]
