"""Splitting a task that exists: rows of ``train`` become ``test.jsonl``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from udr.data import Task, TaskFolder, row_text
from udr.errors import ConfigError
from udr.files import write_atomically
from udr.types import Row
from udr_index.splitting.holdout import Holdout, Pairs, split_rows


@dataclass(frozen=True, slots=True)
class FolderSplit:
    """A task that was split: its name, its rows, and where its rows were before, if not in ``train.jsonl``."""

    task: str
    holdout: Holdout
    kept: Path | None


def split_folder(
    folder: TaskFolder,
    test_rows: int | None = None,
    seed: int = 0,
    near: Callable[[Task, list[Row]], Pairs] | None = None,
) -> FolderSplit:
    """Move rows from ``train`` to a new ``test.jsonl``; see ``split_rows``.

    A training split in CSV or Parquet becomes ``train.jsonl``, and its file is kept as ``unsplit.csv`` or
    ``unsplit.parquet``.

    Args:
        folder: a task with a training split and no test split.
        test_rows: how many rows to hold out; None is a fifth, at most 500.
        seed: selects the rows, together with their ids.
        near: returns what finds more near-duplicates among rows.

    Raises:
        ConfigError: the task has a test split, or too few rows for one.
        DataError: a row is invalid.
    """
    if files := folder.files("test"):
        raise ConfigError(f"{files[0]}: exists, so the task {folder.task.name!r} is split already; omit it, or move it")
    source = folder.file("train")
    kept = None if source.suffix == ".jsonl" else source.with_stem("unsplit")
    if kept is not None and kept.exists():
        raise ConfigError(f"{kept}: exists, but {source.name} would be kept by this name; move it")
    rows = folder.rows("train")
    holdout = split_rows(folder.task, rows, test_rows, seed, near and near(folder.task, rows))
    if not holdout.test:
        raise ConfigError(f"{source}: has too few different rows to hold some out; found {len(rows)}")
    # If this stops between the two files, the moved rows are in both, which `udr tasks check` tells.
    write_rows(folder.path / "test.jsonl", holdout.test)
    write_rows(folder.path / "train.jsonl", holdout.train)
    if kept is not None:
        source.rename(kept)
    return FolderSplit(folder.task.name, holdout, kept)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL."""
    write_atomically(path, "".join(f"{row_text(row)}\n" for row in rows).encode())
