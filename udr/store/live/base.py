"""The base of a live pool: what is open of a published version, and what is remembered of it."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from udr.data import Task, demonstration_wording, text_key
from udr.errors import ArtifactError
from udr.search import Searcher, Vectors, WordSearch
from udr.store.live.labels import Labels
from udr.store.manifest import Manifest
from udr.store.rows import DemonstrationTable, Matcher
from udr.types import Row


@dataclass(eq=False)
class Base:
    """A published version, open; thread-safe.

    Attributes:
        manifest: its manifest.
        tasks: its tasks, by name.
        searchers: one for each task, over its vectors; a ``LabelledSearch`` if it has a label head.
        lexical: BM25 over the inputs, for the tasks that have it.
        table: the rows.
        matcher: answers filters over them.
        sizes: how many rows each task has.
        wordings: the ``demonstration_wording`` of each task.
    """

    manifest: Manifest
    tasks: Mapping[str, Task]
    searchers: Mapping[str, Searcher]
    lexical: Mapping[str, WordSearch]
    table: DemonstrationTable
    matcher: Matcher = field(init=False)
    sizes: Mapping[str, int] = field(init=False)
    wordings: Mapping[str, str] = field(init=False)
    _labels: dict[str, Labels] = field(default_factory=dict, init=False)
    _positions: dict[tuple[str, str], int | None] = field(default_factory=dict, init=False)
    _row_bytes: dict[str, int] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.sizes = {task: len(searcher) for task, searcher in self.searchers.items()}
        self.wordings = {name: demonstration_wording(task) for name, task in self.tasks.items()}
        self.matcher = Matcher(self.table, self.sizes)

    @property
    def tokenizer(self) -> str | None:
        """The fingerprint of the tokenizer that counted its tokens."""
        stamp = self.manifest.tokenizer
        return None if stamp is None else stamp.fingerprint

    @property
    def longest(self) -> float | None:
        """The length of the longest vector, if it is known without measuring."""
        return 1.0 if self.manifest.encoder.metric == "cosine" else None

    def labels(self, task: str) -> Labels:
        """Return the labels of a task's rows."""
        # Two threads may both read them, with the same result.
        if task not in self._labels:
            targets, count = self.table.targets(task), self.sizes[task]
            if len(targets) != count:
                raise ArtifactError(f"task {task!r} has {len(targets)} rows and {count} vectors; run: udr index verify")
            self._labels[task] = Labels.of(targets)
        return self._labels[task]

    def row_bytes(self, task: str) -> int:
        """Return about how many characters a row of a task has, as JSON."""
        if task not in self._row_bytes:
            self._row_bytes[task] = self.table.row_bytes(task)
        return self._row_bytes[task]

    def positions(self, task: str, ids: Iterable[str]) -> list[int]:
        """Return the positions of those rows of a task that have one of these ids; ids are looked up only once."""
        ids = list(ids)
        with self._lock:
            if new := [id for id in ids if (task, id) not in self._positions]:
                found = {id: position for position, id in self.table.positions(task, new).items()}
                self._positions |= {(task, id): found.get(id) for id in new}
            known = [self._positions[task, id] for id in ids]
        return [position for position in known if position is not None]

    def rows(self, task: str, ids: Iterable[str]) -> dict[str, Row]:
        """Return those rows of a task that have one of these ids, by id."""
        positions = list(self.table.positions(task, ids))
        return {row.id: row for row in self.table.rows(task, positions)}

    def vector_of(self, task: str, text: str) -> Vectors | None:
        """Return the vector, float32 [dimension], that the version has of a demonstration's text, which shares it."""
        # So that equal texts tie.
        first = self.table.first(text_key(text), task)
        return None if first is None else np.asarray(self.searchers[task].vectors[first[1]], np.float32)

    def close(self) -> None:
        """Close the rows' file and drop the searchers, whose files close after their last search."""
        self.table.close()
        self.searchers, self.lexical = {}, {}
