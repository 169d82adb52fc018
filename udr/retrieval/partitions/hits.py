"""What hits hold: their rows, labels and vectors, what they cover of a query, and what a label head adds to them."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import PlainText, check_input, copy_text, demonstration_text, input_copy_text
from udr.errors import ArtifactError
from udr.retrieval.choice import Aspects
from udr.retrieval.planning import Plan
from udr.retrieval.stopping import Stopped, refuse_stopped
from udr.retrieval.types import RetrievedDemonstration
from udr.search import DECIMALS, Chances, Hit, LabelledSearch, Vectors, WordQuery, products, refuse_truncated, weigh
from udr.store.live import View
from udr.types import Row, TokenCount

_BLOCK = 512
"""Vectors, or rows that may be copies, read at once."""

_WORDS = 128
"""Words of a query that coverage looks at, the rarest: they bound its cost."""


@dataclass(frozen=True, eq=False, slots=True)
class HitReader:
    """What ``Partitions`` reads hits by."""

    view: View

    def row_bytes(self, plan: Plan) -> int:
        """Return about how many bytes a row has, on average, of that task of a plan with the longest rows."""
        return max(self.view.base.row_bytes(task) for task in plan.copy_keys)

    def label_counts(self, plan: Plan) -> Counter[str]:
        """Return how many rows that a plan searches have each label."""
        return sum((self.view.labels(task).counts(plan.rows.get(task)) for task in plan.copy_keys), Counter())

    def copies(self, plan: Plan, stopped: Stopped) -> dict[str, Mapping[int, str]]:
        """Return the ids of each task's rows whose input equals a plan's, by position; not all once it is stopped."""
        return {
            task: self._equal(plan, task, self.view.table.copies(task, keys), stopped)
            for task, keys in plan.copy_keys.items()
        }

    def _equal(self, plan: Plan, name: str, ids: Mapping[int, str], stopped: Stopped) -> Mapping[int, str]:
        """Return the copies among the rows of a task that have a copy key of a plan, which others may have, too."""
        if not ids:
            return ids
        task, input = self.view.base.tasks[name], plan.request.input
        inputs = PlainText(str(input)).inputs(task) if plan.request.task is None else [check_input(task, input)]
        texts, equal, positions = {input_copy_text(task, fields) for fields in inputs}, dict[int, str](), list(ids)
        for start in range(0, len(positions), _BLOCK):
            if stopped():
                break
            block = positions[start : start + _BLOCK]
            # Most are the same to the letter, and what copies have in common takes longer to find than all else.
            known: dict[str, bool] = {}
            for position, row in zip(block, self.view.table.rows(name, block), strict=True):
                fields = repr((row.input, row.choices))
                if fields not in known:
                    known[fields] = copy_text(task, row) in texts
                if known[fields]:
                    equal[position] = ids[position]
        return equal

    def labels_of(self, hits: Sequence[Hit]) -> list[str]:
        """Return the label of each hit: its target."""
        return [self.view.labels(hit.task).at(hit.position) for hit in hits]

    def vectors(self, hits: Sequence[Hit]) -> NDArray[np.floating]:
        """Return the vectors of hits, [len(hits), dimension], in the type in which they are stored."""
        stored = next(iter(self.view.base.searchers.values())).vectors
        result = np.empty((len(hits), stored.shape[1]), stored.dtype)
        for task, indices in _by_task(hits).items():
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
        for task, indices in _by_task(hits).items():
            refuse_stopped(stopped)
            positions = np.array([hits[index].position for index in indices], np.int64)
            words[indices] = self.view.words(task).word_scores(query, rarest, positions)
            if chances is not None:
                # Number 0 is for rows with a label that the head does not know; their code is -1.
                codes[indices] = self._labelled(task).head.codes[positions] + 1
                likely[indices] = np.concatenate([[0.0], chances])[codes[indices]]
        return Aspects(words, likely, codes)

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

    def _labelled(self, task: str) -> LabelledSearch:
        searcher = self.view.searcher(task)
        assert isinstance(searcher, LabelledSearch), "with_label_heads sees to it"
        return searcher

    def _weighed(self, plan: Plan) -> WordQuery:
        """Return a plan's words, weighted over all rows that it searches, so that the scores of partitions compare."""
        rows = [plan.rows.get(task) for task in plan.copy_keys]
        return weigh(plan.words, [self.view.words(task) for task in plan.copy_keys], rows)

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
            choices=row.choices,
        )

    def _text(self, hit: Hit, row: Row) -> str:
        try:
            return demonstration_text(self.view.base.tasks[hit.task], row)
        except KeyError as error:
            raise ArtifactError(f"row {hit.id!r} of task {hit.task!r} has no field {error}; build it again") from error


def _by_task(hits: Sequence[Hit]) -> dict[str, list[int]]:
    """Return the indices of the hits of each task."""
    indices: dict[str, list[int]] = {}
    for index, hit in enumerate(hits):
        indices.setdefault(hit.task, []).append(index)
    return indices
