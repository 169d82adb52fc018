"""The partitions of an open index, as a request sees them: searches and rows for each task."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udr.data import Filter, demonstration_text
from udr.errors import ArtifactError
from udr.retrieval.choice import Aspects
from udr.retrieval.plan import EVEN, Plan
from udr.retrieval.ranking import Ranking, SearchResult
from udr.retrieval.stopping import Stopped, refuse_stopped
from udr.retrieval.types import RetrievedDemonstration
from udr.search import (
    DECIMALS,
    Chances,
    Hit,
    LabelledSearch,
    Vectors,
    WordQuery,
    fuse,
    nearest,
    order,
    products,
    refuse_truncated,
    weigh,
)
from udr.store.live import View
from udr.types import Row, TokenCount

_FUSED = 100
"""Hits of each ranking that are fused, at least."""

_BLOCK = 512
"""Vectors read at once."""

_WORDS = 128
"""Words of a query that coverage looks at, the rarest: they bound its cost."""


@dataclass(frozen=True, eq=False, slots=True)
class Partitions:
    """Searches partitions and reads rows; thread-safe.

    Attributes:
        view: the rows, those written since the version was built included.
    """

    view: View

    def chances(
        self, plans: Sequence[Plan], vectors: Mapping[int, Vectors], fields: Mapping[int, Vectors]
    ) -> dict[int, Chances]:
        """Return p(label | query), [num_labels], of the plans that a label head ranks, by index in ``plans``.

        ``vectors`` and ``fields`` are those of ``Retriever.search``.
        """
        chances: dict[int, Chances] = {}
        for number, vector in vectors.items():
            if plans[number].label_head:
                (task,), own = plans[number].copy_keys, fields.get(number)
                head = self._labelled(task).head
                (chances[number],) = head.probabilities(vector[None], None if own is None else own[None])
        return chances

    def search(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        chances: Mapping[int, Chances],
        depths: Sequence[int],
        stopped: Sequence[Stopped],
    ) -> list[SearchResult]:
        """Return the nearest hits for each plan, over its partitions as many as its depth.

        Args:
            plans: the plans.
            vectors: the query vectors of the encoded plans, float32 [dimension], by index in ``plans``.
            chances: what ``chances`` returns.
            depths: for each plan.
            stopped: for each plan, whether nobody waits for it any more; its result is then incomplete.
        """
        copies = [
            _passing(plan, {task: self.view.table.copies(task, keys) for task, keys in plan.copy_keys.items()})
            for plan in plans
        ]
        left_out = [self._left_out(plan, found) for plan, found in zip(plans, copies, strict=True)]
        modes = [plan.request.mode for plan in plans]
        deep = [max(depth, _FUSED) if mode == "hybrid" else depth for mode, depth in zip(modes, depths, strict=True)]
        dense, lexical = [Ranking(depth) for depth in deep], [Ranking(depth) for depth in deep]
        self._search_dense(plans, vectors, chances, left_out, deep, dense, stopped)
        self._search_lexical(plans, left_out, deep, lexical, stopped)
        results: list[SearchResult] = []
        for number, mode in enumerate(modes):
            ranking, fused = (lexical if mode == "bm25" else dense)[number], dict[str, list[Hit]]()
            hits = ranking.hits(self.view.table.ids)
            plan, excluded = plans[number], ranking.excluded
            if plan.label_head:
                hits, excluded = (self._with_similarities(vectors[number], found) for found in (hits, excluded))
            if mode == "hybrid":
                name = "the encoder with the label head" if plan.label_head else "the encoder"
                fused = {name: hits, "BM25": lexical[number].hits(self.view.table.ids)}
                hits = nearest(fuse(fused.values(), (2 * plan.weight, 2 - 2 * plan.weight)))
                if plan.weight != EVEN:
                    weights = plan.weight, 1 - plan.weight
                    fused = {f"{key} (weight {w:g})": fused[key] for key, w in zip(fused, weights, strict=True)}
            num_copies = sum(map(len, copies[number].values()))
            results.append(SearchResult(hits, excluded, num_copies, left_out[number], fused))
        return results

    def _search_dense(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        chances: Mapping[int, Chances],
        left_out: Sequence[Mapping[str, Mapping[int, str]]],
        depths: Sequence[int],
        rankings: Sequence[Ranking],
        stopped: Sequence[Stopped],
    ) -> None:
        # Queries to one partition for the same number of hits, excluded ones included, are searched together.
        batches: dict[tuple[str, int, bool, int], list[int]] = {}
        for number in vectors:
            for task, ids in left_out[number].items():
                # Equal filters have the same mask.
                key = task, depths[number] + len(ids), plans[number].label_head, id(plans[number].rows.get(task))
                batches.setdefault(key, []).append(number)
        for (task, count, with_head, _), together in batches.items():
            if numbers := [number for number in together if not stopped[number]()]:
                searcher = self.view.searcher(task)
                refuse_truncated(searcher.vectors)
                queries, mask = np.stack([vectors[number] for number in numbers]), plans[numbers[0]].rows.get(task)
                if with_head:
                    likely = np.stack([chances[number] for number in numbers])
                    positions, similarities = self._labelled(task).search_with_head(queries, likely, count, mask)
                else:
                    positions, similarities = searcher.search(queries, count, mask)
                for row, number in enumerate(numbers):
                    rankings[number].add(task, positions[row], similarities[row], left_out[number][task])

    def _search_lexical(
        self,
        plans: Sequence[Plan],
        left_out: Sequence[Mapping[str, Mapping[int, str]]],
        depths: Sequence[int],
        rankings: Sequence[Ranking],
        stopped: Sequence[Stopped],
    ) -> None:
        for number, plan in enumerate(plans):
            if plan.request.mode == "dense" or stopped[number]():
                continue
            query = self._weighed(plan)
            for task, ids in left_out[number].items():
                if stopped[number]():
                    break
                found = self.view.words(task).nearest(query, depths[number] + len(ids), plan.rows.get(task))
                best = np.array(found).reshape(-1, 2)
                rankings[number].add(task, best[:, 0].astype(np.int64), best[:, 1], ids)

    def _weighed(self, plan: Plan) -> WordQuery:
        """Return a plan's words, weighted over all rows that it searches, so that the scores of partitions compare."""
        rows = [plan.rows.get(task) for task in plan.copy_keys]
        return weigh(plan.words, [self.view.words(task) for task in plan.copy_keys], rows)

    def within(
        self,
        plan: Plan,
        vector: Vectors,
        chances: Chances | None,
        depths: Mapping[str, int],
        left_out: Mapping[str, Mapping[int, str]],
        stopped: Stopped,
    ) -> list[Hit]:
        """Return the hits nearest to a vector, float32 [dimension], as many of each label as ``depths``, in no order.

        ``chances`` are those of its labels, [num_labels], if a label head ranks. ``left_out`` has the ids of excluded
        rows by position, for each task.
        """
        hits: list[Hit] = []
        for label, depth in depths.items():
            ranking = Ranking(depth)
            for task in plan.copy_keys:
                refuse_stopped(stopped)
                excluded, positions = left_out[task], self.view.labels(task).positions(label, plan.rows.get(task))[None]
                rows, query = self.view.searcher(task).vectors, vector[None]
                refuse_truncated(rows)
                if chances is not None:
                    head = self._labelled(task).head
                    rows, query = head.rows(rows), head.extend(query, chances[None])
                (best,), (similarities,) = order(rows, query, positions, depth + len(excluded))
                ranking.add(task, best, similarities, excluded)
            hits += ranking.hits(self.view.table.ids)
        return self._with_similarities(vector, hits) if plan.label_head else hits

    def _labelled(self, task: str) -> LabelledSearch:
        searcher = self.view.searcher(task)
        assert isinstance(searcher, LabelledSearch), "with_label_heads sees to it"
        return searcher

    def _with_similarities(self, vector: Vectors, hits: Sequence[Hit]) -> list[Hit]:
        """Return hits of one task that a label head ranks, each with its similarity beside the number that ranks it."""
        if not hits:
            return []
        positions = np.array([[hit.position for hit in hits]], np.int64)
        (similarities,) = products(self.view.searcher(hits[0].task).vectors, vector[None], positions).tolist()
        return [
            Hit(hit.task, hit.position, hit.id, similarity, hit.similarity)
            for hit, similarity in zip(hits, similarities, strict=True)
        ]

    def added(self, chances: Chances, hits: Sequence[Hit]) -> dict[tuple[str, int], str]:
        """Return, in words, what the label head adds to each hit of one task, by task and position.

        ``chances`` are those of the query's labels, [num_labels].
        """
        if not hits:
            return {}
        head = self._labelled(hits[0].task).head
        # The last is of rows whose label the head does not know, which have the code -1.
        known = [*chances.tolist(), 0.0]
        apart = f", by {' and '.join(head.fields)} apart" if head.fields else ""
        # One text for each label, since a large request has 65,536 candidates.
        texts: dict[str, str] = {}
        notes: dict[tuple[str, int], str] = {}
        for hit, label in zip(hits, self.labels_of(hits), strict=True):
            if label not in texts:
                chance = known[head.codes[hit.position]]
                added = f"the label head added {head.alpha * chance:.5f} for {label!r}, of probability {chance:.3f}"
                texts[label] = f"{added}{apart}"
            notes[hit.task, hit.position] = texts[label]
        return notes

    def aspects(self, plan: Plan, chances: Chances | None, hits: Sequence[Hit], stopped: Stopped) -> Aspects:
        """Return what hits cover of a query: its rarest words, and its label if a label head ranks; see ``choose``.

        ``chances`` are those of its labels, [num_labels], if one does.
        """
        query = self._weighed(plan)
        rarest = sorted(query.weights, key=lambda word: (-query.weights[word], word))[:_WORDS]
        words = np.zeros((len(hits), len(rarest)))
        likely, codes = np.zeros(len(hits)), np.zeros(len(hits), np.int64)
        by_task: dict[str, list[int]] = {}
        for index, hit in enumerate(hits):
            by_task.setdefault(hit.task, []).append(index)
        for task, indices in by_task.items():
            refuse_stopped(stopped)
            positions = np.array([hits[index].position for index in indices], np.int64)
            words[indices] = self.view.words(task).word_scores(query, rarest, positions)
            if chances is not None:
                # Number 0 is for rows with a label that the head does not know; their code is -1.
                codes[indices] = self._labelled(task).head.codes[positions] + 1
                likely[indices] = np.concatenate([[0.0], chances])[codes[indices]]
        return Aspects(words, likely, codes)

    def row_bytes(self, plan: Plan) -> int:
        """Return about how many bytes a row has, on average, of that task of a plan with the longest rows."""
        return max(self.view.base.row_bytes(task) for task in plan.copy_keys)

    def label_counts(self, plan: Plan) -> Counter[str]:
        """Return how many rows that a plan searches have each label."""
        return sum((self.view.labels(task).counts(plan.rows.get(task)) for task in plan.copy_keys), Counter())

    def labels_of(self, hits: Sequence[Hit]) -> list[str]:
        """Return the label of each hit: its target."""
        return [self.view.labels(hit.task).at(hit.position) for hit in hits]

    def vectors(self, hits: Sequence[Hit]) -> NDArray[np.floating]:
        """Return the vectors of hits, [len(hits), dimension], in the type in which they are stored."""
        stored = next(iter(self.view.base.searchers.values())).vectors
        result = np.empty((len(hits), stored.shape[1]), stored.dtype)
        rows: dict[str, list[int]] = {}
        for index, hit in enumerate(hits):
            rows.setdefault(hit.task, []).append(index)
        for task, indices in rows.items():
            refuse_truncated(self.view.searcher(task).vectors)
            # In blocks, so that there is only one copy of all.
            for start in range(0, len(indices), _BLOCK):
                block = indices[start : start + _BLOCK]
                result[block] = self.view.searcher(task).vectors[[hits[index].position for index in block]]
        return result

    def demonstrations(self, results: Sequence[Sequence[Hit]]) -> list[tuple[RetrievedDemonstration, ...]]:
        """Return the demonstrations for the hits of each result, ranked in their order."""
        # One query a task for all results: the table costs more by the query than by the row.
        positions: dict[str, list[int]] = {}
        for hit in itertools.chain.from_iterable(results):
            positions.setdefault(hit.task, []).append(hit.position)
        rows = {task: iter(self.view.table.counted_rows(task, at)) for task, at in positions.items()}
        return [
            tuple(self._demonstration(hit, rank, *next(rows[hit.task])) for rank, hit in enumerate(hits, start=1))
            for hits in results
        ]

    def seen(self, plan: Plan, within: Filter | None = None) -> Plan:
        """Return a plan with the rows that count and pass its filter, and another if there is one.

        Raises:
            InvalidInputError: a condition compares a field with values of another kind.
        """
        rows = self.view.masks(plan.filter, list(plan.copy_keys), within)
        plan = replace(plan, rows=rows, partitions=self, within=within)
        return plan.among(rows) if plan.filtered else plan

    def _left_out(self, plan: Plan, copies: Mapping[str, Mapping[int, str]]) -> Mapping[str, Mapping[int, str]]:
        """Return the ids, by position, of the rows of each task that a plan excludes."""
        ids = plan.request.exclude
        if not ids:
            return copies
        excluded = _passing(plan, {task: self.view.table.positions(task, ids) for task in copies})
        return {task: {**found, **excluded[task]} for task, found in copies.items()}

    def _demonstration(self, hit: Hit, rank: int, row: Row, tokens: TokenCount | None) -> RetrievedDemonstration:
        return RetrievedDemonstration(
            id=row.id,
            task=hit.task,
            similarity=round(hit.similarity, DECIMALS),
            ranking_score=hit.ranking_score,
            rank=rank,
            input=row.input,
            target=row.target,
            text=self._text(hit, row),
            metadata=row.metadata,
            tokens=tokens,
        )

    def _text(self, hit: Hit, row: Row) -> str:
        try:
            return demonstration_text(self.view.base.tasks[hit.task], row)
        except KeyError as error:
            raise ArtifactError(f"row {hit.id!r} of task {hit.task!r} has no field {error}; build it again") from error


def _passing(plan: Plan, ids: Mapping[str, Mapping[int, str]]) -> dict[str, Mapping[int, str]]:
    """Return the ids, by position, of those rows of each task that pass a plan's filter."""
    return {
        task: {at: id for at, id in found.items() if plan.rows[task][at]} if task in plan.rows else found
        for task, found in ids.items()
    }
