"""Scores that follow from labels, where held-out scores confirm it."""

from collections.abc import Mapping
from dataclasses import dataclass

from udr.data import Kind
from udr_training.candidates import LEAST_AGREEMENT, Candidates, LabelScores, RankedExample
from udr_training.trainer import TaskExamples


@dataclass(frozen=True, slots=True)
class LabelModel:
    """A task's scores as a function of labels; see ``ScoreModel``.

    Attributes:
        scores: the mean score by pair of labels, or by whether the two are equal if that alone explains enough.
        labels: of the pool's rows, by id.
        agreement: the share of the order of held-out scores that the labels explain, 0 to 1.
        least: the least share at which they are used.
        source: as a message names it.
    """

    scores: LabelScores
    labels: Mapping[str, str]
    agreement: float
    least: float
    source: str = "labels"

    @staticmethod
    def of(task: TaskExamples) -> "LabelModel | None":
        """Return the model of a task; None without labels, or without scores of equal and of different ones."""
        if task.pool.task.kind is not Kind.CLASSIFICATION:
            return None
        labels = {row.id: row.target for row in task.pool.rows}
        by_pair = LabelScores.of(task.learned, labels)
        if by_pair is None:
            return None
        # With many labels, most pairs have few scores, so which wrong label is better remains unknown. That the right
        # one is best may still hold.
        found = [
            LabelModel(scores, labels, scores.agreement(task.validation, labels), LEAST_AGREEMENT)
            for scores in (by_pair, by_pair.without_pairs())
        ]
        return next((model for model in found if model.agreement >= model.least), found[0])

    def scored(self, candidates: Candidates) -> tuple[RankedExample, ...]:
        """Return queries that were never scored, their candidates in the order of their expected scores.

        Queries without a candidate of their label are left out: a training would take a wrong one for right.
        """
        return tuple(
            self.scores.extrapolate(query, ids, self.labels)
            for query, ids in candidates.items()
            if any(self.labels[id] == self.labels[query] for id in ids)
        )


def label_agreement(task: TaskExamples) -> float | None:
    """Return the share of the order of held-out scores that labels explain, 0 to 1; None where nothing tells it.

    So it is without labels, without held-out queries, and without scores of equal and of different labels.
    """
    model = LabelModel.of(task) if task.validation else None
    return None if model is None else model.agreement
