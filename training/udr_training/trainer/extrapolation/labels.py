"""Scores that follow from labels, where held-out scores confirm it."""

from collections.abc import Mapping
from functools import partial

from udr.data import Kind
from udr_training.candidates import LEAST_AGREEMENT, Candidates, LabelScores, RankedExample
from udr_training.trainer import TaskExamples
from udr_training.trainer.extrapolation.score_model import ScoreModel


def label_model(task: TaskExamples) -> ScoreModel | None:
    """Return a task's scores as a function of labels; None without labels, or without scores of equal and other ones.

    They are the mean score by pair of labels, or by whether the two are equal if that alone explains enough.
    """
    if task.pool.task.kind is not Kind.CLASSIFICATION:
        return None
    labels = {row.id: row.target for row in task.pool.rows}
    by_pair = LabelScores.of(task.learned, labels)
    if by_pair is None:
        return None
    # With many labels, most pairs have few scores, so which wrong label is better remains unknown. That the right one
    # is best may still hold.
    found = [
        ScoreModel(
            "labels", scores.agreement(task.validation, labels), LEAST_AGREEMENT, partial(_scored, scores, labels)
        )
        for scores in (by_pair, by_pair.without_pairs())
    ]
    return next((model for model in found if model.holds), found[0])


def _scored(scores: LabelScores, labels: Mapping[str, str], candidates: Candidates) -> tuple[RankedExample, ...]:
    """Return queries with a candidate of their label; of others, a training would take a wrong candidate for right."""
    return tuple(
        scores.extrapolate(query, ids, labels)
        for query, ids in candidates.items()
        if any(labels[id] == labels[query] for id in ids)
    )


def label_agreement(task: TaskExamples) -> float | None:
    """Return the share of the order of held-out scores that labels explain, 0 to 1; None where nothing tells it.

    So it is without labels, with too few held-out scores, and without scores of equal and of different labels.
    """
    model = label_model(task)
    return None if model is None or model.agreement is None else model.agreement.share
