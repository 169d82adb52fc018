"""A map of a pool's demonstrations by label, before and after training: principal components of their vectors."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import Collection, Kind, Pool, formatting
from udr.errors import UdrError
from udr.models import Encoder, SentenceEncoder
from udr_training.config import RunConfig
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retrievers import model_of, run_of
from udr_training.run_folder import RunFolder

_LOG = logging.getLogger(__name__)

_ROWS = 400


@dataclass(frozen=True, slots=True)
class Panel:
    """One encoder's view of the rows.

    Attributes:
        title: the encoder's name.
        points: [rows, 2].
        shares: each direction's share of the variance.
        neighbours: the share of rows whose nearest other row, in all dimensions, has the same label.
    """

    title: str
    points: NDArray[np.float64]
    shares: tuple[float, float]
    neighbours: float


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The same rows by several encoders.

    Attributes:
        task: the task's name.
        labels: of the rows.
        panels: the encoder that training started from, and the trained one.
        problem: why there is no map, or empty.
    """

    task: str = ""
    labels: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    problem: str = ""


def label_map(evaluation: Evaluation, collection: Collection) -> LabelMap:
    """Return the map of the first classification task, by the best run and the encoder that it started from."""
    tasks = [folder for folder in collection.tasks.values() if folder.task.kind is Kind.CLASSIFICATION]
    runs = [name for name in evaluation.labels if run_of(name) is not None]
    if not tasks or not runs:
        reason = "no classification task was evaluated" if runs else "no run was compared"
        return LabelMap(problem=f"{reason}, so there is no before and after to show")
    run = max(runs, key=lambda name: evaluation.value(name, evaluation.main_shots).value)
    size, seed = evaluation.config["pool"], int(str(evaluation.config["seed"]))
    try:
        pool = tasks[0].pool(min(_ROWS, int(str(size))) if size else _ROWS, seed)
        if len(pool) < 2:
            return LabelMap(problem=f"the pool of {pool.task.name} has only one row")
        folder = run_of(run)
        assert folder is not None
        start = RunFolder(folder).config(RunConfig).train.model
        models = {f"before: {start}": start, f"after: {evaluation.labels[run]}": model_of(run)}
        panels = tuple(_panel(title, pool, SentenceEncoder.load(model)) for title, model in models.items())
    except (UdrError, OSError) as error:
        # The report is useful without a map, too.
        _LOG.warning("omitting the map: %s", error)
        return LabelMap(problem=str(error))
    return LabelMap(pool.task.name, tuple(row.target for row in pool.rows), panels)


def _panel(title: str, pool: Pool, encoder: Encoder) -> Panel:
    vectors = encoder.encode_demonstrations([formatting.encoder_demonstration(pool.task, row) for row in pool.rows])
    points, shares = project(vectors.astype(np.float64))
    return Panel(title, points, shares, same_label([row.target for row in pool.rows], vectors))


def project(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return vectors [rows, dimension] along their two directions of largest variance, and each one's share of it.

    Points are [rows, 2], shares from 0 to 1. The largest entry of a direction is positive, so that the same vectors
    give the same map.
    """
    centred = vectors - vectors.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    points, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    rank = min(2, len(lengths))
    points[:, :rank] = centred @ (directions * signs[:, None])[:rank].T
    variances = lengths**2
    if variances.sum() > 0:
        shares[:rank] = variances[:rank] / variances.sum()
    return points, (float(shares[0]), float(shares[1]))


def same_label(labels: Sequence[str], vectors: NDArray[np.float32]) -> float:
    """Return the share of at least two rows, [rows, dimension], whose nearest other by dot product has their label."""
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    array = np.array(labels)
    return float(np.mean(array == array[similarities.argmax(axis=1)]))
