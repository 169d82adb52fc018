"""The partitions of an opened index: searchers for each task, and the rows that their positions stand for."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from udr.bm25 import BM25Search, weigh
from udr.demonstrations import DemonstrationTable
from udr.encoder import Vectors
from udr.planning import Plan
from udr.search import DECIMALS, Searcher
from udr.selection import Hit, fuse, nearest, without
from udr.tasks import Task
from udr.text import demonstration_text
from udr.types import Mode, RetrievedDemonstration, Row

_FUSED = 100
"""Hits of each ranking that are fused, at least."""


class Partitions:
    """Searches partitions and reads rows. May be used by several threads.

    Args:
        tasks: the tasks, by name.
        searchers: one for each task, over its vectors.
        lexical: by task, over its inputs; for the tasks that have one.
        table: the rows.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        searchers: Mapping[str, Searcher],
        lexical: Mapping[str, BM25Search],
        table: DemonstrationTable,
    ) -> None:
        self._tasks, self._searchers, self._lexical, self._table = tasks, searchers, lexical, table

    def search(self, plans: Sequence[Plan], vectors: Mapping[int, Vectors]) -> list[list[Hit]]:
        """Return hits for each plan, its k best among them, and none that must not come back.

        Args:
            plans: the requests.
            vectors: the queries of those that are not of mode ``bm25``, float32 [dimension], by place in ``plans``.
        """
        barred = [{task: self._barred(plan, task) for task in plan.copy_keys} for plan in plans]
        dense = self._dense(plans, vectors, barred)
        lexical = self._by_words(plans, barred)
        return [_of_mode(plan, *found) for plan, *found in zip(plans, dense, lexical, strict=True)]

    def _dense(
        self, plans: Sequence[Plan], vectors: Mapping[int, Vectors], barred: Sequence[Mapping[str, set[str]]]
    ) -> list[list[Hit]]:
        # Searches of one partition for equally many are one search; what is barred is fetched on top, and dropped.
        together: dict[tuple[str, int], list[int]] = {}
        for number in vectors:
            for task, ids in barred[number].items():
                together.setdefault((task, _depth(plans[number]) + len(ids)), []).append(number)
        hits: list[list[Hit]] = [[] for _ in plans]
        for (task, count), numbers in together.items():
            queries = np.stack([vectors[number] for number in numbers])
            positions, similarities = self._searchers[task].search(queries, count)
            for number, found, values in zip(numbers, positions.tolist(), similarities.tolist(), strict=True):
                hits[number] += without(self._hits(task, found, values), barred[number][task])
        return hits

    def _by_words(self, plans: Sequence[Plan], barred: Sequence[Mapping[str, set[str]]]) -> list[list[Hit]]:
        hits: list[list[Hit]] = [[] for _ in plans]
        for number, plan in enumerate(plans):
            if plan.request.mode != "dense":
                # Weighed for all that is searched: scores of partitions that each knew only itself would not compare.
                query = weigh(plan.words, [self._lexical[task] for task in barred[number]])
                for task, ids in barred[number].items():
                    found = self._lexical[task].nearest(query, _depth(plan) + len(ids))
                    positions, scores = zip(*found, strict=True) if found else ((), ())
                    hits[number] += without(self._hits(task, positions, scores), ids)
        return hits

    def demonstrations(self, hits: Sequence[Hit]) -> tuple[RetrievedDemonstration, ...]:
        """Return the demonstrations that these hits stand for, ranked in the order given."""
        positions: dict[str, list[int]] = {}
        for hit in hits:
            positions.setdefault(hit.task, []).append(hit.position)
        rows = {task: iter(self._table.rows(task, at)) for task, at in positions.items()}
        return tuple(self._demonstration(hit, rank, next(rows[hit.task])) for rank, hit in enumerate(hits, start=1))

    def row(self, task: str, id: str) -> Row | None:
        """Return the row of that id, or None."""
        return self._table.row(task, id)

    def close(self) -> None:
        """Close the rows' file, and let go of the searchers: what they map is closed with the last search of it."""
        self._table.close()
        self._searchers, self._lexical = {}, {}

    def _hits(self, task: str, positions: Sequence[int], similarities: Iterable[float]) -> list[Hit]:
        found = zip(positions, self._table.ids(task, positions), similarities, strict=True)
        return [Hit(task, position, id, similarity) for position, id, similarity in found]

    def _barred(self, plan: Plan, task: str) -> set[str]:
        return self._table.copies(task, plan.copy_keys[task]).union(plan.request.exclude)

    def _demonstration(self, hit: Hit, rank: int, row: Row) -> RetrievedDemonstration:
        return RetrievedDemonstration(
            id=row.id,
            task=hit.task,
            similarity=round(hit.similarity, DECIMALS),
            rank=rank,
            input=row.input,
            target=row.target,
            text=demonstration_text(self._tasks[hit.task], row),
            metadata=row.metadata,
        )


def _depth(plan: Plan) -> int:
    """Return how many hits of a partition a plan needs."""
    return max(plan.request.k, _FUSED) if plan.request.mode == "hybrid" else plan.request.k


def _of_mode(plan: Plan, dense: list[Hit], lexical: list[Hit]) -> list[Hit]:
    mode: Mode = plan.request.mode
    if mode == "hybrid":
        return fuse(nearest(hits, _depth(plan)) for hits in (dense, lexical))
    return dense if mode == "dense" else lexical
