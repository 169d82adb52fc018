"""Scoring a task's pool in the ways that ``--by`` names."""

from collections.abc import Callable, Sequence

from udr.data import Kind, Task, encoder_demonstration, row_query
from udr.errors import ConfigError
from udr.models import Encoder, TextLM
from udr.types import Row
from udr_training.pool.coherence import coherence_score
from udr_training.pool.copies import copy_score
from udr_training.pool.criteria import CriteriaJudge, criteria_score
from udr_training.pool.labels import label_score
from udr_training.pool.length import length_score
from udr_training.pool.scores import Score

LABELS = "labels"
"""What only rows of a classification task can be scored by."""

WAYS = (LABELS, "copies", "length")
"""What rows can be scored by without a language model."""

COHERENCE = "coherence"
"""What a language model in this process scores rows by."""

CRITERIA = "criteria"
"""What a language model's server scores rows by."""

_EVERY = (*WAYS, COHERENCE, CRITERIA)


def check_ways(task: Task, by: Sequence[str] | None) -> tuple[str, ...]:
    """Return how to score a task's rows: as asked, or in all of ``WAYS`` that fit it.

    Raises:
        ConfigError: there is no such way, or it does not fit the task.
    """
    labelled = task.kind is Kind.CLASSIFICATION
    if by is None:
        return tuple(way for way in WAYS if labelled or way != LABELS)
    for way in by:
        if way not in _EVERY:
            raise ConfigError(f"--by must name some of {', '.join(_EVERY)}; found {way!r}")
    if LABELS in by and not labelled:
        raise ConfigError(f"--by labels needs a classification task; {task.name!r} is {task.kind}; omit labels")
    return tuple(dict.fromkeys(by))


def score_pool(
    task: Task,
    rows: Sequence[Row],
    by: Sequence[str],
    encoder: Callable[[], Encoder],
    judge: CriteriaJudge | None = None,
    text_lm: Callable[[], TextLM] | None = None,
) -> list[Score]:
    """Score the rows of a pool.

    Args:
        task: the rows' task.
        rows: the pool, in its file's order.
        by: some of ``WAYS``, ``COHERENCE`` and ``CRITERIA``.
        encoder: loads the encoder; called only for labels and criteria.
        judge: the criteria, and who judges by them; needed for criteria.
        text_lm: loads the language model that reads long rows; needed for coherence.

    Raises:
        DataError: there are too few rows to score them by labels, or the criteria decide too little.
    """
    return [_score(task, rows, way, encoder, judge, text_lm) for way in by]


def _score(
    task: Task,
    rows: Sequence[Row],
    way: str,
    encoder: Callable[[], Encoder],
    judge: CriteriaJudge | None,
    text_lm: Callable[[], TextLM] | None,
) -> Score:
    if way == "copies":
        return copy_score(task, rows)
    if way == "length":
        return length_score(task, rows)
    if way == COHERENCE:
        if text_lm is None:
            raise ConfigError("rows are scored by coherence only with a language model")
        return coherence_score(rows, text_lm())
    model = encoder()
    if way == CRITERIA:
        if judge is None:
            raise ConfigError("rows are scored by criteria only with a judge")
        demonstrations = model.encode_demonstrations([encoder_demonstration(task, row) for row in rows])
        return criteria_score(task, rows, demonstrations, judge, {"encoder": model.fingerprint})
    vectors = model.encode_queries([row_query(task, row) for row in rows])
    return label_score(vectors, [row.target for row in rows], {"encoder": model.fingerprint})
