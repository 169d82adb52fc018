"""The hits of one plan over its partitions: arrays, until the few that are nearest need ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np

from udr.search import Hit, Positions, Similarities, nearest

ReadIds = Callable[[str, Sequence[int]], Sequence[str]]
"""Returns the ids of a task's rows at these positions."""

_NO_CODES = np.empty(0, np.int64)


@dataclass(slots=True)
class SearchResult:
    """The hits for one plan, nearest first, and what was left out.

    Attributes:
        hits: the hits, as many as the search was deep.
        excluded: hits that the request excludes.
        copies: how many rows equal the query.
        left_out: for each task, the ids of the rows that the request excludes, by position.
        fused: the rankings that were fused, by name.
    """

    hits: list[Hit]
    excluded: list[Hit]
    copies: int
    left_out: Mapping[str, Mapping[int, str]]
    fused: Mapping[str, Sequence[Hit]] = field(default_factory=dict)

    def ranks(self) -> dict[tuple[str, int], str]:
        """Return the ranks of each fused hit in words, by task and position."""
        ranks: dict[tuple[str, int], list[str]] = {}
        for name, ranking in self.fused.items():
            for rank, hit in enumerate(ranking, start=1):
                ranks.setdefault((hit.task, hit.position), []).append(f"rank {rank} by {name}")
        return {key: ", ".join(words) for key, words in ranks.items()}


class Ranking:
    """Gathers the nearest hits of several partitions, as many as ``depth``, and those that a request excludes."""

    def __init__(self, depth: int) -> None:
        self.excluded: list[Hit] = []
        self._depth, self._tasks = depth, list[str]()
        self._codes, self._positions, self._similarities = _NO_CODES, _NO_CODES, np.empty(0)

    def add(self, task: str, positions: Positions, similarities: Similarities, excluded: Mapping[int, str]) -> None:
        """Add hits of a task, both [num_hits]; ``excluded`` has the ids of excluded rows by position."""
        if excluded:
            out = np.isin(positions, np.fromiter(excluded, np.int64, len(excluded)))
            found = zip(positions[out].tolist(), similarities[out].tolist(), strict=True)
            self.excluded += (Hit(task, position, excluded[position], similarity) for position, similarity in found)
            positions, similarities = positions[~out], similarities[~out]
        self._codes = np.append(self._codes, np.full(len(positions), len(self._tasks)))
        self._positions, self._similarities = (
            np.append(self._positions, positions),
            np.append(self._similarities, similarities),
        )
        self._tasks.append(task)
        if len(self._codes) > self._depth:
            # Ties of the last one stay, since their ids decide.
            least = np.partition(self._similarities, -self._depth)[-self._depth]
            near = self._similarities >= least
            self._codes, self._positions = self._codes[near], self._positions[near]
            self._similarities = self._similarities[near]

    def hits(self, ids: ReadIds) -> list[Hit]:
        """Return the nearest hits in their order, with the ids that a function reads."""
        hits: list[Hit] = []
        # np.unique would import numpy.ma, which takes longer than all of this.
        for code in sorted(set(self._codes.tolist())):
            own, task = self._codes == code, self._tasks[code]
            positions, similarities = self._positions[own].tolist(), self._similarities[own].tolist()
            hits += map(Hit, repeat(task), positions, ids(task, positions), similarities)
        return nearest(hits)[: self._depth]
