"""The training history of runs, read from ``iteration-N/metrics.jsonl``."""

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from udr.errors import ArtifactError
from udr_training.evaluation.retriever_names import run_of

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
        run: the run's name, as the report has it.
        iterations: those that wrote something, in order.
        problem: why there are none; empty where there are.
    """

    run: str
    iterations: tuple[Iteration, ...] = field(default=())
    problem: str = ""


def histories(labels: Mapping[str, str]) -> list[History]:
    """Return the history of each run among the retrievers; several models of one run share one.

    Args:
        labels: short names by full ones.
    """
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
        # A report without a curve is worth more than none.
        _LOG.warning("omitting the curves of %s: %s", label, error)
        return History(label, problem=str(error))
    return History(label, iterations, "" if iterations else "its training wrote no metrics.jsonl")


def read_iterations(folder: Path) -> tuple[Iteration, ...]:
    """Return what a run's trainings wrote, in the order of the iterations.

    Raises:
        ArtifactError: a line is none of a training's; the message names file and line.
    """
    paths = {
        int(path.parent.name.removeprefix("iteration-")): path for path in folder.glob("iteration-[0-9]*/metrics.jsonl")
    }
    return tuple(_iteration(number, paths[number]) for number in sorted(paths))


def _iteration(number: int, path: Path) -> Iteration:
    losses: dict[int, float] = {}
    ndcg: dict[int, dict[str, float]] = {}
    whole, _, _ = path.read_text("utf-8").rpartition("\n")
    # What follows the last end of a line was cut short by a kill. A training that went on from a checkpoint wrote
    # some steps twice; the later line counts.
    for place, line in enumerate(filter(str.strip, whole.splitlines()), start=1):
        try:
            said = json.loads(line)
            step = int(said["step"])
            if "loss" in said:
                losses |= _finite({step: said["loss"]}.items())
            if values := _finite(said.get("ndcg", {}).items()):
                ndcg[step] = values
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}:{place}: not a line of training metrics: {error!r}") from error
    return Iteration(number, dict(sorted(losses.items())), dict(sorted(ndcg.items())))


def _finite(values: Iterable[tuple[_Key, object]]) -> dict[_Key, float]:
    """Return the values that can be drawn; a loss that has gone out of range is left out."""
    return {key: number for key, value in values if value is not None and math.isfinite(number := float(str(value)))}
