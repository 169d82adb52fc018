"""The partitions of an open index: searchers and rows for each task."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from udr.data import Task, demonstration_text
from udr.retrieval.plan import Plan
from udr.retrieval.types import RetrievedDemonstration
from udr.search import DECIMALS, BM25Search, Hit, Positions, Searcher, Vectors, fuse, nearest, order, weigh
from udr.store import DemonstrationTable
from udr.types import Row, TokenCount

_FUSED = 100
"""Hits of each ranking that are fused, at least."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The targets of a partition's rows.

    Attributes:
        names: the distinct targets, sorted.
        codes: for each row, by position, the index of its target in ``names``.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, targets: Sequence[str]) -> "Labels":
        """Return the labels of rows with these targets, by position."""
        codes = {name: code for code, name in enumerate(sorted(set(targets)))}
        return cls(tuple(codes), np.fromiter((codes[target] for target in targets), np.int32, len(targets)))

    def at(self, position: int) -> str:
        """Return the target of the row at a position."""
        return self.names[int(self.codes[position])]

    def positions(self, name: str) -> Positions:
        """Return the positions of rows with a target, ascending."""
        code = self.names.index(name) if name in self.names else -1
        return np.flatnonzero(self.codes == code).astype(np.int64)

    def counts(self) -> Counter[str]:
        """Return how many rows have each target."""
        return Counter(dict(zip(self.names, np.bincount(self.codes, minlength=len(self.names)).tolist(), strict=True)))


@dataclass(slots=True)
class SearchResult:
    """The hits for one plan, in no order, those that the request excludes, and the rankings that were fused."""

    hits: list[Hit] = field(default_factory=list)
    excluded: list[Hit] = field(default_factory=list)
    fused: Mapping[str, Sequence[Hit]] = field(default_factory=dict)

    def ranks(self) -> dict[tuple[str, int], str]:
        """Return the ranks of each fused hit in words, by task and position."""
        ranks: dict[tuple[str, int], list[str]] = {}
        for name, ranking in self.fused.items():
            for rank, hit in enumerate(ranking, start=1):
                ranks.setdefault((hit.task, hit.position), []).append(f"rank {rank} by {name}")
        return {key: ", ".join(words) for key, words in ranks.items()}

    def add(self, hits: Iterable[Hit], excluded: Collection[str]) -> None:
        """Add hits of one partition; those with the ids in ``excluded`` are excluded."""
        for hit in hits:
            (self.excluded if hit.id in excluded else self.hits).append(hit)


@dataclass(eq=False)
class Partitions:
    """Searches partitions and reads rows; thread-safe.

    Attributes:
        tasks: the tasks, by name.
        searchers: one for each task, over its vectors.
        lexical: BM25 over the inputs, for the tasks that have it.
        table: the rows.
    """

    tasks: Mapping[str, Task]
    searchers: Mapping[str, Searcher]
    lexical: Mapping[str, BM25Search]
    table: DemonstrationTable
    _labels: dict[str, Labels] = field(default_factory=dict, init=False)

    def search(
        self, plans: Sequence[Plan], vectors: Mapping[int, Vectors], depths: Sequence[int]
    ) -> list[SearchResult]:
        """Return the nearest hits for each plan: of each partition as many as its depth, besides excluded ones.

        ``vectors`` has the query vectors of the encoded plans, float32 [dimension], by index in ``plans``.
        """
        excluded = [{task: self._excluded(plan, task) for task in plan.copy_keys} for plan in plans]
        modes = [plan.request.mode for plan in plans]
        deep = [max(depth, _FUSED) if mode == "hybrid" else depth for mode, depth in zip(modes, depths, strict=True)]
        dense = self._search_dense(vectors, excluded, deep)
        lexical = self._search_lexical(plans, excluded, deep)
        results = {"dense": dense, "bm25": lexical}
        return [
            _fused(dense[n], lexical[n], deep[n]) if mode == "hybrid" else results[mode][n]
            for n, mode in enumerate(modes)
        ]

    def _search_dense(
        self, vectors: Mapping[int, Vectors], excluded: Sequence[Mapping[str, set[str]]], depths: Sequence[int]
    ) -> list[SearchResult]:
        # Queries to one partition for the same number of hits, excluded ones included, are searched together.
        batches: dict[tuple[str, int], list[int]] = {}
        for number in vectors:
            for task, ids in excluded[number].items():
                batches.setdefault((task, depths[number] + len(ids)), []).append(number)
        results = [SearchResult() for _ in excluded]
        for (task, count), numbers in batches.items():
            queries = np.stack([vectors[number] for number in numbers])
            positions, similarities = self.searchers[task].search(queries, count)
            hits = iter(self._hits(task, positions.ravel().tolist(), similarities.ravel().tolist()))
            for number in numbers:
                results[number].add(itertools.islice(hits, positions.shape[1]), excluded[number][task])
        return results

    def _search_lexical(
        self, plans: Sequence[Plan], excluded: Sequence[Mapping[str, set[str]]], depths: Sequence[int]
    ) -> list[SearchResult]:
        results = [SearchResult() for _ in plans]
        for plan, by_task, depth, result in zip(plans, excluded, depths, results, strict=True):
            if plan.request.mode != "dense":
                # Weights over all tasks searched, so that the scores of partitions compare.
                query = weigh(plan.words, [self.lexical[task] for task in by_task])
                for task, ids in by_task.items():
                    best = self.lexical[task].nearest(query, depth + len(ids))
                    positions, scores = zip(*best, strict=True) if best else ((), ())
                    result.add(self._hits(task, positions, scores), ids)
        return results

    def within(self, plan: Plan, vector: Vectors, depths: Mapping[str, int]) -> list[Hit]:
        """Return the hits nearest to a vector, float32 [dimension], as many per label as ``depths``, in no order."""
        result = SearchResult()
        for task in plan.copy_keys if depths else ():
            excluded, labels, rows = self._excluded(plan, task), self._labels_of(task), self.searchers[task].vectors
            for label, depth in depths.items():
                positions = labels.positions(label)[None]
                (best,), (similarities,) = order(rows, vector[None], positions, depth + len(excluded))
                result.add(self._hits(task, best.tolist(), similarities.tolist()), excluded)
        return result.hits

    def label_counts(self, plan: Plan) -> Counter[str]:
        """Return how many rows that a plan searches have each label."""
        return sum((self._labels_of(task).counts() for task in plan.copy_keys), Counter())

    def labels_of(self, hits: Sequence[Hit]) -> list[str]:
        """Return the label of each hit: its target."""
        return [self._labels_of(hit.task).at(hit.position) for hit in hits]

    def _labels_of(self, task: str) -> Labels:
        # Two threads may both read them, with the same result.
        if task not in self._labels:
            self._labels[task] = Labels.of(self.table.targets(task))
        return self._labels[task]

    def vectors(self, hits: Sequence[Hit]) -> NDArray[np.float64]:
        """Return the vectors of hits, float64 [len(hits), dimension]."""
        result = np.empty((len(hits), next(iter(self.searchers.values())).vectors.shape[1]))
        for task in {hit.task for hit in hits}:
            indices = [index for index, hit in enumerate(hits) if hit.task == task]
            result[indices] = self.searchers[task].vectors[[hits[index].position for index in indices]]
        return result

    def size(self, plan: Plan) -> int:
        """Return the size of the largest partition that a plan searches."""
        return max(len(self.searchers[task]) for task in plan.copy_keys)

    def num_copies(self, plan: Plan) -> int:
        """Return how many rows equal the query of a plan, unless it keeps them."""
        return sum(len(self.table.copies(task, keys)) for task, keys in plan.copy_keys.items())

    def demonstrations(self, results: Sequence[Sequence[Hit]]) -> list[tuple[RetrievedDemonstration, ...]]:
        """Return the demonstrations for the hits of each result, ranked in their order."""
        # One query a task for all results: the table costs more by the query than by the row.
        positions: dict[str, list[int]] = {}
        for hit in itertools.chain.from_iterable(results):
            positions.setdefault(hit.task, []).append(hit.position)
        rows = {task: iter(self.table.counted_rows(task, at)) for task, at in positions.items()}
        return [
            tuple(self._demonstration(hit, rank, *next(rows[hit.task])) for rank, hit in enumerate(hits, start=1))
            for hits in results
        ]

    def close(self) -> None:
        """Close the rows' file and drop the searchers, whose files close after their last search."""
        self.table.close()
        self.searchers, self.lexical = {}, {}

    def _hits(self, task: str, positions: Sequence[int], similarities: Iterable[float]) -> list[Hit]:
        hits = zip(positions, self.table.ids(task, positions), similarities, strict=True)
        return [Hit(task, position, id, similarity) for position, id, similarity in hits]

    def _excluded(self, plan: Plan, task: str) -> set[str]:
        return self.table.copies(task, plan.copy_keys[task]).union(plan.request.exclude)

    def _demonstration(self, hit: Hit, rank: int, row: Row, tokens: TokenCount | None) -> RetrievedDemonstration:
        return RetrievedDemonstration(
            id=row.id,
            task=hit.task,
            similarity=round(hit.similarity, DECIMALS),
            rank=rank,
            input=row.input,
            target=row.target,
            text=demonstration_text(self.tasks[hit.task], row),
            metadata=row.metadata,
            tokens=tokens,
        )


def _fused(dense: SearchResult, lexical: SearchResult, depth: int) -> SearchResult:
    rankings = {"the encoder": nearest(dense.hits)[:depth], "BM25": nearest(lexical.hits)[:depth]}
    return SearchResult(fuse(rankings.values()), dense.excluded, rankings)
