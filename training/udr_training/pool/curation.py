"""Choosing the rows of a pool to keep, by their scores, and writing them as a new collection."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from udr.data import Kind, Task, TaskFolder, row_text
from udr.errors import ConfigError, DataError
from udr.types import Row
from udr_training.pool.new_collection import new_collection, task_path, write_lines, write_records
from udr_training.pool.scores import Score

DROPPED = "dropped.jsonl"
"""The file beside a task's that names each row left out, the reason and the score that decided."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is left out: its id, why, and the score that decided."""

    id: str
    reason: str
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows that are kept, and those that are dropped, each in the pool's order."""

    kept: tuple[Row, ...]
    dropped: tuple[Dropped, ...]


def choose(rows: Sequence[Row], scores: Sequence[Score], keep: float | None = None) -> Choice:
    """Choose the rows to keep.

    A row's place in a score is the share of rows that score no better, so that scores of any scale compare; its lowest
    place counts. Flagged rows are dropped first, then the others, each by their places; of equal ones the
    later first.

    Args:
        rows: the pool.
        scores: those of all rows; at least one.
        keep: the share of rows to keep; None drops the flagged rows, and no other.

    Raises:
        ConfigError: ``keep`` is not above 0 and at most 1.
        DataError: every row is flagged.
    """
    if keep is not None and not 0 < keep <= 1:
        raise ConfigError(f"--keep must be above 0 and at most 1, found {keep:g}")
    judged = [
        _worst(places, position, scores) for position, places in enumerate(zip(*map(_places, scores), strict=True))
    ]
    order = sorted(range(len(rows)), key=lambda position: (*judged[position][:2], -position))
    flagged = sum(not unflagged for unflagged, _, _ in judged)
    number = flagged if keep is None else len(rows) - ceil(keep * len(rows) - 1e-9)
    if number == len(rows):
        raise DataError("every row is flagged, so none would be kept; name the share to keep with --keep")
    out = {position: judged[position][2] for position in order[:number]}
    return Choice(
        tuple(row for position, row in enumerate(rows) if position not in out),
        tuple(
            Dropped(row.id, _reason(out[position], position), out[position].values[position])
            for position, row in enumerate(rows)
            if position in out
        ),
    )


def lost_labels(task: Task, rows: Sequence[Row], choice: Choice) -> list[str]:
    """Return the labels of a classification task that have rows in the pool, and none among the kept ones."""
    if task.kind is not Kind.CLASSIFICATION:
        return []
    had, have = ({row.target for row in among} for among in (rows, choice.kept))
    return [label for label in task.labels if label in had - have]


def _places(score: Score) -> list[float]:
    """Return the share of rows that score no better than each row."""
    ordered = sorted(score.values)
    return [bisect_right(ordered, value) / len(ordered) for value in score.values]


def _worst(places: Sequence[float], position: int, scores: Sequence[Score]) -> tuple[bool, float, Score]:
    """Return whether no score flags a row, its lowest place, and the score that says so; flags count before places."""
    verdicts = [
        (score.values[position] >= score.flagged_below, place, score)
        for place, score in zip(places, scores, strict=True)
    ]
    return min(verdicts, key=lambda verdict: verdict[:2])


def _reason(score: Score, position: int) -> str:
    note = score.notes.get(position)
    return score.name if note is None else f"{score.name}: {note}"


def write_curated(folder: TaskFolder, choice: Choice, out: Path) -> Path:
    """Write a collection with the kept rows of a task, and return the task's folder in it.

    The task's description, and the rows of validation and test, are copied as they are; so is the family's instruction.

    Raises:
        ConfigError: ``out`` exists.
    """
    source = folder.file("train")
    with new_collection(folder, out) as target:
        write_lines(target / "train.jsonl", map(row_text, choice.kept), source)
        write_records(target / DROPPED, map(asdict, choice.dropped), source)
    return out / task_path(folder)
