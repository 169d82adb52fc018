"""The partitions of an open index, as a request sees them: searched for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from udr.data import Filter
from udr.retrieval.partitions.hits import HitReader
from udr.retrieval.partitions.ranking import Ranking, SearchResult
from udr.retrieval.planning import EVEN, Plan
from udr.retrieval.stopping import Stopped, refuse_stopped
from udr.search import Chances, Hit, Vectors, fuse, nearest, order, refuse_truncated

_FUSED = 100
"""Hits of each ranking that are fused, at least."""


@dataclass(frozen=True, eq=False, slots=True)
class Partitions(HitReader):
    """Searches partitions and reads rows; thread-safe.

    Attributes:
        view: the rows, those written since the version was built included.
    """

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
        equal: Sequence[Mapping[str, Mapping[int, str]]],
        vectors: Mapping[int, Vectors],
        chances: Mapping[int, Chances],
        depths: Sequence[int],
        stopped: Sequence[Stopped],
    ) -> list[SearchResult]:
        """Return the nearest hits for each plan, over its partitions as many as its depth.

        Args:
            plans: the plans.
            equal: what ``copies`` returns, for each plan.
            vectors: the query vectors of the encoded plans, float32 [dimension], by index in ``plans``.
            chances: what ``chances`` returns.
            depths: for each plan.
            stopped: for each plan, whether nobody waits for it any more; its result is then incomplete.
        """
        copies = [_passing(plan, found) for plan, found in zip(plans, equal, strict=True)]
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
                apart = excluded, lexical[number].excluded
                hits, excluded = _fused(list(fused.values()), apart, plan.weight)
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


def _fused(
    rankings: Sequence[Sequence[Hit]], excluded: Sequence[Sequence[Hit]], weight: float
) -> tuple[list[Hit], list[Hit]]:
    """Return the hits of two rankings, fused; and those excluded from each, with the numbers that they would have."""
    weights = 2 * weight, 2 - 2 * weight
    hits, out = nearest(fuse(rankings, weights)), {(hit.task, hit.position) for own in excluded for hit in own}
    if not out:
        return hits, []
    everything = fuse([nearest((*own, *more)) for own, more in zip(rankings, excluded, strict=True)], weights)
    return hits, [hit for hit in everything if (hit.task, hit.position) in out]


def _passing(plan: Plan, ids: Mapping[str, Mapping[int, str]]) -> dict[str, Mapping[int, str]]:
    """Return the ids, by position, of those rows of each task that pass a plan's filter."""
    return {
        task: {at: id for at, id in found.items() if plan.rows[task][at]} if task in plan.rows else found
        for task, found in ids.items()
    }
