"""The evaluation after a training: the run's retriever against those that need no training."""

import logging
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from udr.data import Collection, TaskFolder
from udr.models import BASE_ENCODER, DEFAULT_ENCODER, RunnerOptions
from udr_training.answering import is_remote
from udr_training.config import RunConfig
from udr_training.evaluation.config import FOLDER, EvaluationConfig
from udr_training.evaluation.evaluate import evaluate
from udr_training.evaluation.report import write_report
from udr_training.evaluation.results import Evaluation, TaskResult
from udr_training.evaluation.retrievers import BM25, RANDOM, name_of
from udr_training.feedback import OnProgress, opened_lm
from udr_training.run_folder import url_of

_LOG = logging.getLogger(__name__)

SHOTS = 4
"""The demonstrations of a prompt."""


def tested(collection: Collection) -> dict[str, TaskFolder]:
    """Return the tasks that have test rows, by name."""
    return {name: folder for name, folder in collection.tasks.items() if folder.files("test")}


def untrained(config: RunConfig) -> tuple[str, ...]:
    """Return the names of the retrievers that a run's is compared with.

    The last is the encoder that the run starts from, or if that is the base, the one of an index without a run.
    """
    model = config.train.model
    return RANDOM, BM25, DEFAULT_ENCODER if model == BASE_ENCODER else model


def prove(
    run: Path,
    collection: Collection,
    config: RunConfig,
    rows: int,
    report: Callable[[TaskResult], None],
    progress: OnProgress = lambda *_: None,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
) -> Evaluation | None:
    """Compare a finished run's retriever with those that are ``untrained``; write the report.

    Gains are relative to the best of those three by their mean. Existing answers are reused.

    Args:
        run: the run directory; the evaluation is written to its directory ``report``.
        collection: the tasks it was trained on.
        config: the run's.
        rows: test rows per task, sampled by seed.
        report: called with each result.
        progress: called with the progress of the answers.
        runner: where the language model answers; processes of this machine encode large pools, too.

    Returns:
        The results; None, with a warning, if no task has test rows or the language model is a server's.
    """
    folders = tested(collection)
    if not folders or is_remote(config.feedback.lm):
        problem = "a server's answers may cost money" if folders else "no task has test rows"
        _LOG.warning("the run is not evaluated: %s; see udr evaluate", problem)
        return None
    evaluation_config = EvaluationConfig(
        # Not the path of a copy, which differs on each machine.
        retrievers=(*untrained(config), url_of(run) or name_of(run)),
        shots=(SHOTS,),
        limit=rows,
        pool=config.candidates.pool or None,
        seed=config.seed,
    )
    collection = replace(collection, tasks=folders)
    with opened_lm(config.feedback, runner, "evaluation") as lm:
        evaluation = evaluate(
            collection,
            lm,
            evaluation_config,
            output=run / FOLDER,
            report=report,
            progress=progress,
            processes=runner.processes,
        )
    best = max(untrained(config), key=lambda name: evaluation.value(name, SHOTS).value)
    again = evaluation_command(collection, config, evaluation_config.retrievers)
    # The encoder that it started from may be another run's, but is not what is judged here.
    evaluation = replace(evaluation, baseline=best, use_all=again, runs=evaluation_config.retrievers[-1:])
    write_report(run / FOLDER, evaluation, collection)
    return evaluation


def evaluation_command(collection: Collection, config: RunConfig, retrievers: Iterable[str]) -> str:
    """Return the command that evaluates retrievers by the language model and tasks of ``prove``, on all test rows."""
    lm, pool = config.feedback, config.candidates.pool
    words = ["udr", "evaluate", str(collection.root), "--tasks", ",".join(tested(collection))]
    words += ["--retrievers", ",".join(retrievers), "--shots", str(SHOTS)]
    words += ["--lm", lm.lm, "--device", lm.device, "--dtype", lm.dtype, "--seed", str(config.seed)]
    words += ["--pool", str(pool)] if pool else []
    return shlex.join(words)
