"""A segment: the rows of one task that were written since its version was built, in the order of their ids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from udr.data import Task, copy_key, input_words
from udr.search import (
    BM25Search,
    ExactLabelled,
    ExactProposals,
    LabelHead,
    LabelledSearch,
    Searcher,
    compare,
)
from udr.store.live.overlay import Stored
from udr.store.manifest import Partition
from udr.store.rows import Matcher
from udr.types import Json, Row, TokenCount


class Segment:
    """Rows of a task, searched exactly; all that is computed of them is computed when it is first needed.

    Args:
        part: the task's partition in the version.
        stored: the rows; each fits the task.
        dtype: the type of the version's vectors.
        dimension: of its vectors.
        tokenizer: the fingerprint of its tokenizer; None without one.
        longest: the length of the longest vector, if it is known.
        head: the version's label head of the task.
        before: the segment that this one replaces, so that a write costs little for the rows that it leaves.

    Attributes:
        task: the task.
        ids: the rows' ids, ascending.
        rows: the rows, in that order.
    """

    def __init__(
        self,
        part: Partition,
        stored: Sequence[Stored],
        dtype: str,
        dimension: int,
        tokenizer: str | None,
        longest: float | None,
        head: LabelHead | None,
        before: "Segment | None" = None,
    ) -> None:
        stored = sorted(stored, key=lambda item: item.row.id)
        self.task: Task = part.task
        self.ids = [item.row.id for item in stored]
        self.rows: list[Row] = [item.row for item in stored]
        self._part, self._stored, self._tokenizer = part, stored, tokenizer
        self._dtype, self._dimension, self._longest, self._head = dtype, dimension, longest, head
        self._copy_keys: Mapping[Stored, bytes] = {} if before is None else before._copy_keys

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def vectors(self) -> NDArray[np.floating]:
        """The vectors, [len, dimension], in the version's type."""
        vectors = np.empty((len(self), self._dimension), self._dtype)
        for place, item in enumerate(self._stored):
            vectors[place] = item.vector
        return vectors

    @cached_property
    def searcher(self) -> Searcher:
        """Exact search of the vectors; with the task's label head, a ``LabelledSearch``."""
        plain = ExactProposals(partial(compare, self.vectors), self.vectors, self._longest)
        stamp = self._part.label_head
        if self._head is None or stamp is None:
            return plain
        codes = {label: code for code, label in enumerate(stamp.labels)}
        # A label that the head was not fitted on has no probability, until compaction fits it again.
        own = np.array([codes.get(row.target, -1) for row in self.rows], np.int32)
        head = replace(self._head, codes=own)
        return LabelledSearch(plain, ExactLabelled(self.vectors, head, self._longest), head)

    @cached_property
    def words(self) -> BM25Search:
        """BM25 over the inputs, by the rule of the partition's own index."""
        assert self._part.lexical is not None, "asked for only if the partition has an index of words"
        texts = (input_words(self.task, row.input, row.choices) for row in self.rows)
        return BM25Search(texts, self._part.lexical)

    @cached_property
    def copies(self) -> Mapping[bytes, Sequence[int]]:
        """The places of the rows by copy key."""
        known, keys, places = self._copy_keys, dict[Stored, bytes](), dict[bytes, list[int]]()
        for place, item in enumerate(self._stored):
            key = keys[item] = known.get(item) or copy_key(self.task, item.row.input, item.row.choices)
            places.setdefault(key, []).append(place)
        self._copy_keys = keys
        return places

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The places of the rows by id."""
        return {id: place for place, id in enumerate(self.ids)}

    @cached_property
    def matcher(self) -> Matcher:
        """Answers filters over the rows."""
        return Matcher(self, {self.task.name: len(self)})

    def counted_row(self, place: int) -> tuple[Row, TokenCount | None]:
        """Return the row at a place, and its token count if the version's tokenizer made one."""
        item, name = self._stored[place], self._tokenizer
        counted = item.tokens is not None and name is not None and item.tokenizer == name
        return item.row, TokenCount(tokenizer=str(name), count=item.tokens or 0) if counted else None

    def stored(self, place: int) -> Stored:
        """Return what was written at a place."""
        return self._stored[place]

    def targets(self, task: str) -> list[str]:
        """Return the targets of the rows."""
        return [row.target for row in self.rows]

    def all_ids(self, task: str) -> Iterator[str]:
        """Yield the ids of the rows."""
        return iter(self.ids)

    def metadata(self, task: str) -> Iterator[Mapping[str, Json]]:
        """Yield the metadata of the rows."""
        return (row.metadata for row in self.rows)
