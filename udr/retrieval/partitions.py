"""The partitions of an opened index: searchers for each task, and the rows that their positions stand for."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from udr.data import Task, demonstration_text
from udr.retrieval.labels import Labels
from udr.retrieval.plan import Plan
from udr.retrieval.types import Mode, RetrievedDemonstration
from udr.search import DECIMALS, BM25Search, Hit, Searcher, Vectors, fuse, nearest, order, weigh
from udr.store import DemonstrationTable
from udr.types import Row, TokenCount

_FUSED = 100
"""Hits of each ranking that are fused, at least."""


@dataclass(slots=True)
class Found:
    """What a search found for one request.

    Attributes:
        hits: in no order.
        barred: those that must not come back.
    """

    hits: list[Hit] = field(default_factory=list)
    excluded: list[Hit] = field(default_factory=list)

    def add(self, hits: Iterable[Hit], excluded: Collection[str]) -> None:
        """Take hits of one partition in, of which those with these ids are barred."""
        for hit in hits:
            (self.excluded if hit.id in excluded else self.hits).append(hit)


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
        self._dimension = next(iter(searchers.values())).vectors.shape[1]
        self._labels: dict[str, Labels] = {}

    def search(self, plans: Sequence[Plan], vectors: Mapping[int, Vectors], depths: Sequence[int]) -> list[Found]:
        """Return hits for each plan, its best among them.

        Args:
            plans: the requests.
            vectors: the queries of those that are not of mode ``bm25``, float32 [dimension], by place in ``plans``.
            depths: how many of each partition are wanted, for each plan; what is barred comes on top.
        """
        excluded = [{task: self._excluded(plan, task) for task in plan.copy_keys} for plan in plans]
        deep = [_depth(plan, depth) for plan, depth in zip(plans, depths, strict=True)]
        dense = self._dense(plans, vectors, excluded, deep)
        lexical = self._by_words(plans, excluded, deep)
        return [_of_mode(plan, depth, *both) for plan, depth, *both in zip(plans, deep, dense, lexical, strict=True)]

    def _dense(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        excluded: Sequence[Mapping[str, set[str]]],
        depths: Sequence[int],
    ) -> list[Found]:
        # Searches of one partition for equally many are one search; what is barred is fetched on top, and dropped.
        together: dict[tuple[str, int], list[int]] = {}
        for number in vectors:
            for task, ids in excluded[number].items():
                together.setdefault((task, depths[number] + len(ids)), []).append(number)
        found = [Found() for _ in plans]
        for (task, count), numbers in together.items():
            queries = np.stack([vectors[number] for number in numbers])
            positions, similarities = self._searchers[task].search(queries, count)
            hits = iter(self._hits(task, positions.ravel().tolist(), similarities.ravel().tolist()))
            for number in numbers:
                found[number].add(itertools.islice(hits, positions.shape[1]), excluded[number][task])
        return found

    def _by_words(
        self, plans: Sequence[Plan], excluded: Sequence[Mapping[str, set[str]]], depths: Sequence[int]
    ) -> list[Found]:
        found = [Found() for _ in plans]
        for number, plan in enumerate(plans):
            if plan.request.mode != "dense":
                # Weighed for all that is searched: scores of partitions that each knew only itself would not compare.
                query = weigh(plan.words, [self._lexical[task] for task in excluded[number]])
                for task, ids in excluded[number].items():
                    best = self._lexical[task].nearest(query, depths[number] + len(ids))
                    positions, scores = zip(*best, strict=True) if best else ((), ())
                    found[number].add(self._hits(task, positions, scores), ids)
        return found

    def within(self, plan: Plan, vector: Vectors, depths: Mapping[str, int]) -> list[Hit]:
        """Return the hits of some labels that are nearest to a query, in no order, whatever others are nearer.

        Args:
            plan: the request.
            vector: its query, float32 [dimension].
            depths: how many of each partition are wanted, by the target that they have.
        """
        found = Found()
        for task in plan.copy_keys if depths else ():
            excluded, labels, rows = self._excluded(plan, task), self._labels_of(task), self._searchers[task].vectors
            for label, depth in depths.items():
                positions = labels.positions(label)[None]
                (best,), (similarities,) = order(rows, vector[None], positions, depth + len(excluded))
                found.add(self._hits(task, best.tolist(), similarities.tolist()), excluded)
        return found.hits

    def label_counts(self, plan: Plan) -> Counter[str]:
        """Return how many of what a plan searches have each label."""
        return sum((self._labels_of(task).counts() for task in plan.copy_keys), Counter())

    def labels_of(self, hits: Sequence[Hit]) -> list[str]:
        """Return the label of each hit: its target."""
        return [self._labels_of(hit.task).at(hit.position) for hit in hits]

    def _labels_of(self, task: str) -> Labels:
        # Read when they are first asked for; two threads that both do come to the same.
        if task not in self._labels:
            self._labels[task] = Labels.of(self._table.targets(task))
        return self._labels[task]

    def vectors(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """Return the vectors of hits, float64 [len(hits), dimension]."""
        found = np.empty((len(hits), self._dimension))
        for task in {hit.task for hit in hits}:
            places = [place for place, hit in enumerate(hits) if hit.task == task]
            found[places] = self._searchers[task].vectors[[hits[place].position for place in places]]
        return found

    def size(self, plan: Plan) -> int:
        """Return how many demonstrations the largest partition has that a plan searches."""
        return max(len(self._searchers[task]) for task in plan.copy_keys)

    def demonstrations(self, answers: Sequence[Sequence[Hit]]) -> list[tuple[RetrievedDemonstration, ...]]:
        """Return the demonstrations that the hits of each answer stand for, ranked in the order given."""
        # Read at once for all answers: the table costs by the question more than by the row.
        positions: dict[str, list[int]] = {}
        for hit in itertools.chain.from_iterable(answers):
            positions.setdefault(hit.task, []).append(hit.position)
        rows = {task: iter(self._table.counted_rows(task, at)) for task, at in positions.items()}
        return [
            tuple(self._demonstration(hit, rank, *next(rows[hit.task])) for rank, hit in enumerate(hits, start=1))
            for hits in answers
        ]

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

    def _excluded(self, plan: Plan, task: str) -> set[str]:
        return self._table.copies(task, plan.copy_keys[task]).union(plan.request.exclude)

    def _demonstration(self, hit: Hit, rank: int, row: Row, tokens: TokenCount | None) -> RetrievedDemonstration:
        return RetrievedDemonstration(
            id=row.id,
            task=hit.task,
            similarity=round(hit.similarity, DECIMALS),
            rank=rank,
            input=row.input,
            target=row.target,
            text=demonstration_text(self._tasks[hit.task], row),
            metadata=row.metadata,
            tokens=tokens,
        )


def _depth(plan: Plan, depth: int) -> int:
    """Return how many hits of a partition a plan needs, to have so many of all."""
    return max(depth, _FUSED) if plan.request.mode == "hybrid" else depth


def _of_mode(plan: Plan, depth: int, dense: Found, lexical: Found) -> Found:
    mode: Mode = plan.request.mode
    if mode == "hybrid":
        hits = fuse(nearest(found.hits)[:depth] for found in (dense, lexical))
        return Found(hits, dense.excluded)
    return dense if mode == "dense" else lexical
