"""Splitting a task that exists: rows of ``train`` go to ``test.jsonl``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from udr.data import Task, TaskFolder, row_text
from udr.errors import ConfigError
from udr.files import refuse_link, write_atomically
from udr.types import Row
from udr_index.plural import counted
from udr_index.splitting.holdout import TEST_SHARE, Holdout, Pairs, split_rows


@dataclass(frozen=True, slots=True)
class FolderSplit:
    """A task that was split: its name, its rows, and where its rows were before, if not in ``train.jsonl``.

    ``before`` is the number of test rows that it had.
    """

    task: str
    holdout: Holdout
    kept: Path | None
    before: int = 0


def split_folder(
    folder: TaskFolder,
    test_rows: int | None = None,
    seed: int = 0,
    near: Callable[[Task, list[Row]], Pairs] | None = None,
) -> FolderSplit:
    """Move rows from ``train`` to ``test.jsonl``; see ``split_rows``.

    A training split in CSV or Parquet becomes ``train.jsonl``, and its file is kept as ``unsplit.csv`` or
    ``unsplit.parquet``.

    Args:
        folder: a task with a training split, and no test split or one of fewer rows.
        test_rows: how many rows to hold out, those included that are held out already; None is a fifth, at most 500.
        seed: selects the rows, together with their ids.
        near: returns what finds more near-duplicates among rows.

    Raises:
        ConfigError: the task has as many test rows already, or too few rows or only near-duplicates.
        DataError: a row is invalid.
        OSError: a file cannot be written, or is a link to a read-only file, or to none.
    """
    held = _held_out(folder, test_rows)
    source = folder.file("train")
    kept = None if source.suffix == ".jsonl" else source.with_stem("unsplit")
    if kept is not None and kept.exists():
        raise ConfigError(f"{kept}: exists, but {source.name} would be kept by this name; move it")
    rows = folder.rows("train")
    more = None if test_rows is None else test_rows - len(held)
    holdout = split_rows(folder.task, rows, more, seed, near and near(folder.task, rows))
    if not holdout.test:
        few = f"a share of {TEST_SHARE:g} of {counted(len(rows), 'row')} is no row; add rows, or give --test-rows"
        raise ConfigError(f"{source}: {holdout.notice or few}")
    holdout = replace(holdout, test=(*held, *holdout.test))
    test, train = folder.path / "test.jsonl", folder.path / "train.jsonl"
    for path in (test, train):
        refuse_link(path)
    # If this stops between the two files, the moved rows are in both, which `udr tasks check` tells.
    write_rows(test, holdout.test, source)
    write_rows(train, holdout.train, source)
    if kept is not None:
        source.rename(kept)
    return FolderSplit(folder.task.name, holdout, kept, len(held))


def _held_out(folder: TaskFolder, test_rows: int | None) -> list[Row]:
    """Return the test rows that a task has already; ``ConfigError`` unless more are requested."""
    if not folder.files("test"):
        return []
    path, held = folder.file("test"), folder.rows("test")
    if test_rows is None or test_rows <= len(held) or path.suffix != ".jsonl":
        found = f"{path}: exists with {len(held)} rows, so the task {folder.task.name!r} is split already"
        raise ConfigError(f"{found}; to hold out more, give --test-rows above that; test rows in JSONL can be added to")
    return held


def write_rows(path: Path, rows: Iterable[Row], source: Path) -> None:
    """Write rows of a file as JSONL, for others no more readable than that file."""
    write_atomically(path, "".join(f"{row_text(row)}\n" for row in rows).encode(), source)
