"""Extends a task's feedback to rows that were never scored, by a model of its scores that held-out scores confirm."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from udr.data import Kind, sample_by
from udr.files import write_atomically
from udr.types import Row
from udr_training.candidates import LEAST_PAIRS, LEAST_QUERIES, Candidates, distinct, rank_candidates
from udr_training.config import TrainConfig
from udr_training.trainer import TaskExamples
from udr_training.trainer.extrapolation.score_model import ScoreModel

_LOG = logging.getLogger(__name__)


def num_further(training: int, config: TrainConfig) -> int:
    """Return how many rows become queries at most, since a training visits no more.

    The steps follow from the training queries of the first iteration, and half of the visits are to these rows, since a
    draw has as many of them as of scored queries; see ``dataset``.

    Args:
        training: the training queries of the first iteration.
        config: the training's.
    """
    return math.ceil(config.epochs * training / 2)


def extend(
    file: Path,
    task: TaskExamples,
    model: Callable[[], ScoreModel | None],
    propose: Callable[[Sequence[Row]], Candidates],
    config: TrainConfig,
) -> TaskExamples:
    """Return a task's examples with further queries, if the model of its scores holds.

    Args:
        file: where the result is kept: read if it exists, else written.
        task: the scored examples.
        model: returns the model of the scores; None if the task cannot have one.
        propose: returns candidates of queries.
        config: the training's.
    """
    if not file.exists():
        notice, scores = _extrapolated(task, model(), propose, config)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps({"notice": notice, "scores": scores}).encode())
    found = json.loads(file.read_text("utf-8"))
    notice, scores = found.get("notice", "extrapolated by an earlier version of udr"), found.get("scores", {})
    _LOG.warning("task %s: %s", task.pool.task.name, notice)
    return replace(task, extrapolated=tuple(rank_candidates(query, own) for query, own in scores.items()))


def _extrapolated(
    task: TaskExamples,
    model: ScoreModel | None,
    propose: Callable[[Sequence[Row]], Candidates],
    config: TrainConfig,
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return what is to be told, and the scores of further queries' candidates."""
    if model is None:
        labels = task.pool.task.kind is Kind.CLASSIFICATION
        why = "no scores tell equal labels from different ones" if labels else "it has no labels"
        return f"{why}; no row is added", {}
    if model.agreement is None:
        few = f"fewer than {LEAST_PAIRS} pairs of candidates, of {LEAST_QUERIES} held-out queries, can judge"
        why = few if task.validation else "no query is held out to judge"
        return f"{why} {model.source}; no row is added", {}
    share, pairs = model.agreement.share, model.agreement.pairs
    told = f"{model.source} get {share:.1%} of the order of held-out scores right ({pairs:,} pairs)"
    if not model.holds:
        return f"{told}, less than {model.least:.1%}; no row is added", {}
    ids = {example.query_id for example in (*task.learned, *task.validation)}
    asked = [row for row in task.rows if row.id in ids]
    # A file is often sorted by label, so its first rows are no sample of it.
    others = sample_by(task.pool.rows, None, 0, lambda row: f"{row.id}:extrapolated")
    further = distinct(task.pool.task, others, asked)
    rows = list(islice(further, num_further(len(task.training), config)))
    scored = model.scored(propose(rows))
    left_out = len(rows) - len(scored)
    without = f"; {left_out} without a candidate of their label do not" if left_out else ""
    return f"{told}; {len(scored)} more rows become queries{without}", {
        example.query_id: dict(zip(example.candidates, example.scores, strict=True)) for example in scored
    }
