"""A plan: a valid request, and all that is known of it before anything is computed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from udr.data import Filter
from udr.retrieval.planning.cost import cost
from udr.retrieval.types import RetrievalRequest
from udr.search import Mask

if TYPE_CHECKING:
    from udr.retrieval.partitions import Partitions

EVEN = 0.5
"""The weight in mode ``hybrid`` by which both rankings count alike."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request.

    Attributes:
        request: the request.
        text: what the encoder reads.
        words: what BM25 reads.
        copy_keys: for each task to search, the copy keys of rows that may equal the query.
        size: how many demonstrations these tasks have, of those that pass the filter.
        copy_text: what the encoder reads as a demonstration, to find near copies; None without ``max_copy``.
        row_bytes: about how many bytes a demonstration of these tasks has, at most.
        label_head: whether the task's label head ranks.
        field_texts: what the encoder reads besides, each alone: the fields that this head reads apart.
        weight: how much the encoder's ranking counts in mode ``hybrid``, from 0 to 1.
        filter: the request's filter, parsed.
        within: a filter of the only rows that it sees, for a tenant.
        rows: for each task, which rows may be returned; all, if it has none.
        partitions: what it is to be searched in: the rows as they were when it was made.
    """

    request: RetrievalRequest
    text: str
    words: str
    copy_keys: Mapping[str, Collection[bytes]]
    size: int
    copy_text: str | None = None
    row_bytes: int = 0
    label_head: bool = False
    field_texts: tuple[str, ...] = ()
    weight: float = EVEN
    filter: Filter | None = None
    within: Filter | None = None
    rows: Mapping[str, Mask] = field(default_factory=dict)
    partitions: "Partitions | None" = field(default=None, repr=False, compare=False)

    def among(self, rows: Mapping[str, Mask]) -> "Plan":
        """Return the plan that searches only these rows of each task."""
        return replace(self, rows=rows, size=sum(int(np.count_nonzero(mask)) for mask in rows.values()))

    @property
    def filtered(self) -> bool:
        """Whether a filter leaves rows out."""
        return self.filter is not None or self.within is not None

    @property
    def encoded(self) -> bool:
        """Whether the text must be encoded."""
        return self.request.mode != "bm25"

    @property
    def query_texts(self) -> tuple[str, ...]:
        """All that the encoder reads as queries: the text, and the fields after it; nothing in mode ``bm25``."""
        return (self.text, *self.field_texts) if self.encoded else ()

    @property
    def num_chosen(self) -> int:
        """How many demonstrations to choose: k, or as many as there are candidates for a prompt with room left."""
        return max(self.request.k, min(self.size, self._considered)) if self.request.fill else self.request.k

    @property
    def candidates(self) -> int:
        """How many hits to search for at first: k if similarity alone chooses."""
        return self._considered if self.request.chooses else self.request.k

    @property
    def cost(self) -> int:
        """About how many plain queries it costs to encode, search and select, at least 1."""
        return cost(self)

    @property
    def _considered(self) -> int:
        return self.request.candidates or max(4 * self.request.k, 50)
