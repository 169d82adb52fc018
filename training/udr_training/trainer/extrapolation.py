"""Queries that were never scored: their candidates' scores follow from labels, where the held-out scores confirm it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from udr.data import Kind
from udr_training.candidates import LEAST_AGREEMENT, Candidates, LabelScores
from udr_training.trainer.dataset import TaskExamples


@dataclass(frozen=True, slots=True)
class LabelModel:
    """A task's scores as a function of labels, learned from training queries and judged by those for validation.

    Attributes:
        scores: the mean score by pair of labels.
        labels: of the pool's rows, by id.
        agreement: the share of the order of held-out scores that the labels explain, 0 to 1.
    """

    scores: LabelScores
    labels: Mapping[str, str]
    agreement: float

    @staticmethod
    def of(task: TaskExamples) -> "LabelModel | None":
        """Return the model of a task; None without labels, or without scores of equal and of different ones."""
        if task.pool.task.kind is not Kind.CLASSIFICATION:
            return None
        labels = {row.id: row.target for row in task.pool.rows}
        scores = LabelScores.of(task.training, labels)
        return None if scores is None else LabelModel(scores, labels, scores.agreement(task.validation, labels))

    @property
    def holds(self) -> bool:
        """Whether labels explain enough of the order."""
        return self.agreement >= LEAST_AGREEMENT

    def extend(self, task: TaskExamples, candidates: Candidates) -> TaskExamples:
        """Return the task with further queries, whose candidates are given."""
        further = tuple(self.scores.extrapolate(query, ids, self.labels) for query, ids in candidates.items())
        return replace(task, extrapolated=further)
