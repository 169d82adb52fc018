"""What an evaluation asks of a retriever, and the one that needs nothing: random demonstrations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Protocol

from udr.data import Pool
from udr.prompts import Arrange, Order
from udr.types import Json, Row
from udr_training.candidates import CandidatePool
from udr_training.evaluation.retrievers.names import RANDOM


def best_last(positions: Sequence[int]) -> Sequence[int]:
    """Return positions of rows, best first, in the order in which a prompt shows them: the best last."""
    return positions[::-1]


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows that a retriever chooses for a query.

    Attributes:
        rows: the best first.
        arrange: from positions in ``rows`` to the order in which a prompt shows them.
        drawn: how many of them are drawn by seed, since a search found too few.
        order: the name of the order of ``arrange``, for prompts that leave out what does not fit.
        seed: of the order ``shuffle``.
    """

    rows: Sequence[Row]
    arrange: Arrange = best_last
    drawn: int = 0
    order: Order = Order.NEAREST_LAST
    seed: int = 0

    def prompt(self, positions: Sequence[int]) -> list[Row]:
        """Return the rows at some positions, in the order in which a prompt shows them."""
        return [self.rows[position] for position in self.arrange(positions)]


class ComparedRetriever(Protocol):
    """A retriever in an evaluation."""

    @property
    def name(self) -> str:
        """The name in the configuration, with its options."""

    @property
    def identity(self) -> Mapping[str, Json]:
        """What its demonstrations depend on, beside the task and the seed."""

    @property
    def trained(self) -> bool:
        """Whether ``udr train`` has trained the encoder that it searches by, as far as is known."""

    @property
    def fills(self) -> bool:
        """Whether it draws demonstrations by seed if its search finds too few."""

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """Raise a ``UdrError`` if ``demonstrations`` would, as far as is known before anything is computed."""

    def demonstrations(self, pool: Pool, queries: Sequence[Row], *counts: int) -> list[Shown]:
        """Return at most a count of demonstrations for each query, best first; never the query or a copy of it.

        Those of the first count come first. The fewer need not be the first of the more: ``diversity`` chooses among
        candidates, of which there are more if more are requested.
        """


@dataclass(frozen=True)
class RandomRetriever:
    """Draws demonstrations for each query, by a seed."""

    seed: int
    name: ClassVar[str] = RANDOM
    trained: ClassVar[bool] = False
    fills: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Json]:
        """See ``ComparedRetriever``."""
        return {"kind": RANDOM}

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """See ``ComparedRetriever``."""

    def demonstrations(self, pool: Pool, queries: Sequence[Row], *counts: int) -> list[Shown]:
        """See ``ComparedRetriever``."""
        candidates = CandidatePool(pool, self.seed)
        return [Shown(list(islice(candidates.drawn(query), count))) for count in counts for query in queries]
