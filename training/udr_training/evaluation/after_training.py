"""The evaluation after a training: the run's retriever against those that need no training."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from udr.data import Collection
from udr_training.answering import is_remote
from udr_training.config import RunConfig
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.evaluate import evaluate
from udr_training.evaluation.report import write_report
from udr_training.evaluation.results import Evaluation, TaskResult
from udr_training.evaluation.retrievers import BM25, RANDOM
from udr_training.feedback import OnProgress, load_local

FOLDER = "report"
"""The evaluation's directory in a run directory."""

_LOG = logging.getLogger(__name__)
_SHOTS = 4


def prove(
    run: Path,
    collection: Collection,
    config: RunConfig,
    rows: int,
    report: Callable[[TaskResult], None],
    progress: OnProgress = lambda *_: None,
) -> Evaluation | None:
    """Compare a finished run's retriever with random, BM25 and the encoder it started from; write the report.

    Gains are relative to the best of those three by their mean. Existing answers are reused.

    Args:
        run: the run directory; the evaluation is written to its directory ``report``.
        collection: the tasks it was trained on.
        config: the run's.
        rows: test rows per task, sampled by seed.
        report: called with each result.
        progress: called with the progress of the answers.

    Returns:
        The results; None, with a warning, if no task has test rows or the language model is a server's.
    """
    tested = {name: folder for name, folder in collection.tasks.items() if folder.files("test")}
    if not tested or is_remote(config.feedback.lm):
        problem = "a server's answers may cost money" if tested else "no task has test rows"
        _LOG.warning("the run is not evaluated: %s; see udr evaluate", problem)
        return None
    untrained = (RANDOM, BM25, config.train.model)
    evaluation_config = EvaluationConfig(
        retrievers=(*untrained, str(run)),
        shots=(_SHOTS,),
        limit=rows,
        pool=config.candidates.pool or None,
        seed=config.seed,
    )
    collection = replace(collection, tasks=tested)
    lm = load_local(config.feedback)
    evaluation = evaluate(collection, lm, evaluation_config, output=run / FOLDER, report=report, progress=progress)
    best = max(untrained, key=lambda name: evaluation.value(name, _SHOTS).value)
    evaluation = replace(evaluation, baseline=best)
    write_report(run / FOLDER, evaluation, collection)
    return evaluation
