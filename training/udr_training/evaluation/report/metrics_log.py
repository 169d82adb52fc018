"""The training history of runs, read from ``iteration-N/metrics.jsonl``."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from udr.errors import ArtifactError
from udr_training.evaluation.retrievers import run_of

_LOG = logging.getLogger(__name__)

_Key = TypeVar("_Key")

MEAN = "mean"
"""The key of the mean over tasks."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """The training of one iteration.

    Attributes:
        number: from 0.
        losses: by step.
        ndcg: of each validation, by step: values by task, and their mean.
    """

    number: int
    losses: Mapping[int, float]
    ndcg: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class History:
    """The trainings of a run.

    Attributes:
        run: the run's name in the report.
        iterations: those with a log, in order.
        problem: why there are none, or empty.
    """

    run: str
    iterations: tuple[Iteration, ...] = ()
    problem: str = ""


def histories(labels: Mapping[str, str]) -> list[History]:
    """Return the history of each run among retrievers, given by full and short names; models of a run share it."""
    folders: dict[Path, str] = {}
    for name in labels:
        folder = run_of(name)
        if folder is not None:
            folders.setdefault(folder.resolve(), labels[name].partition("/iteration-")[0])
    return [_history(folder, label) for folder, label in folders.items()]


def _history(folder: Path, label: str) -> History:
    try:
        iterations = read_iterations(folder)
    except (ArtifactError, OSError) as error:
        # The report is useful without curves too.
        _LOG.warning("omitting the curves of %s: %s", label, error)
        return History(label, problem=str(error))
    return History(label, iterations, "" if iterations else "its training wrote no metrics.jsonl")


def read_iterations(folder: Path) -> tuple[Iteration, ...]:
    """Return the logs of a run's trainings, in the order of the iterations.

    Raises:
        ArtifactError: a line is not from a training; the message names file and line.
    """
    paths = {
        int(path.parent.name.removeprefix("iteration-")): path for path in folder.glob("iteration-[0-9]*/metrics.jsonl")
    }
    return tuple(_iteration(number, paths[number]) for number in sorted(paths))


def _iteration(number: int, path: Path) -> Iteration:
    losses: dict[int, float] = {}
    ndcg: dict[int, dict[str, float]] = {}
    # A kill may leave an incomplete last line. A resumed training logs some steps twice; the later line counts.
    complete, _, _ = path.read_text("utf-8").rpartition("\n")
    for line_number, line in enumerate(filter(str.strip, complete.splitlines()), start=1):
        try:
            entry = json.loads(line)
            step = int(entry["step"])
            if "loss" in entry:
                losses |= _finite({step: entry["loss"]})
            if values := _finite(entry.get("ndcg", {})):
                ndcg[step] = values
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}:{line_number}: not a line of training metrics: {error!r}") from error
    return Iteration(number, dict(sorted(losses.items())), dict(sorted(ndcg.items())))


def _finite(values: Mapping[_Key, object]) -> dict[_Key, float]:
    """Return the values that a chart can show, without NaN and infinite ones."""
    numbers = {key: float(str(value)) for key, value in values.items() if value is not None}
    return {key: number for key, number in numbers.items() if math.isfinite(number)}
