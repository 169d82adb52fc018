"""Extends a task's feedback to rows that were never scored, by a model of its scores that held-out scores confirm."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from udr.data import Kind, sample_by
from udr.files import write_atomically
from udr.types import Row
from udr_training.candidates import Candidates, rank_candidates
from udr_training.config import TrainConfig
from udr_training.trainer import TaskExamples
from udr_training.trainer.extrapolation.score_model import ScoreModel

_LOG = logging.getLogger(__name__)


def num_further(pool: int, asked: int, training: int, config: TrainConfig) -> int:
    """Return how many rows become queries: those that were not asked, but no more than a training visits.

    The steps follow from the training queries of the first iteration, and half of the visits are to these rows, since a
    draw has as many of them as of scored queries; see ``dataset``.

    Args:
        pool: the rows of the pool.
        asked: those of them that are scored queries.
        training: the training queries of the first iteration.
        config: the training's.
    """
    return min(pool - asked, math.ceil(config.epochs * training / 2))


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
        _write(file, task, model(), propose, config)
    name, found = task.pool.task.name, json.loads(file.read_text("utf-8"))
    if not found:
        labels = task.pool.task.kind is Kind.CLASSIFICATION
        why = "no scores tell equal labels from different ones" if labels else "it has no labels"
        _LOG.warning("task %s: %s; no row is added", name, why)
        return task
    source, scores = found["source"], found["scores"]
    told = f"{source} get {found['agreement']:.1%} of the order of held-out scores right"
    if found["agreement"] < found["least"]:
        low = f"{told}, less than {found['least']:.1%}"
        why = low if task.validation else f"no query is held out to judge {source}"
        _LOG.warning("task %s: %s; no row is added", name, why)
        return task
    without = f"; {found['left_out']} without a candidate of their label do not" if found["left_out"] else ""
    _LOG.warning("task %s: %s; %d more rows become queries%s", name, told, len(scores), without)
    return replace(task, extrapolated=tuple(rank_candidates(query, own) for query, own in scores.items()))


def _write(
    file: Path,
    task: TaskExamples,
    model: ScoreModel | None,
    propose: Callable[[Sequence[Row]], Candidates],
    config: TrainConfig,
) -> None:
    result: dict[str, object] = {}
    if model is not None:
        result = {
            "source": model.source,
            "agreement": model.agreement,
            "least": model.least,
            "scores": {},
            "left_out": 0,
        }
        if model.agreement >= model.least:
            asked = {example.query_id for example in (*task.learned, *task.validation)}
            count = num_further(len(task.pool), len(asked), len(task.training), config)
            others = [row for row in task.pool.rows if row.id not in asked]
            # A file is often sorted by label, so its first rows are no sample of it.
            rows = sample_by(others, count, 0, lambda row: f"{row.id}:extrapolated")
            scored = model.scored(propose(rows))
            result["scores"] = {
                example.query_id: dict(zip(example.candidates, example.scores, strict=True)) for example in scored
            }
            result["left_out"] = len(rows) - len(scored)
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps(result).encode())
