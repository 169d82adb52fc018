"""What became of the rows from one index version to another: SQLite compares the two files, memory holds ids only."""

import itertools
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError
from udr.store import read_only_uri

# Both ways of looking a row up go by the index of (task, id), which gives the ids in their order.
_MISSING = """
    SELECT id FROM {here}.demonstrations AS here WHERE task = ? AND NOT EXISTS (
        SELECT 1 FROM {there}.demonstrations AS there WHERE there.task = here.task AND there.id = here.id
    ) ORDER BY id
"""
_ADDED = _MISSING.format(here="new", there="main")
_REMOVED = _MISSING.format(here="main", there="new")
_CHANGED = """
    SELECT old.id FROM main.demonstrations AS old CROSS JOIN new.demonstrations AS new
    WHERE old.task = ? AND new.task = old.task AND new.id = old.id AND new.row <> old.row ORDER BY old.id
"""


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of some rows of a task.

    Attributes:
        count: how many rows.
        first: the first of their ids, or all of them, in their order.
    """

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsDiff:
    """What became of a task's rows.

    Attributes:
        added: those that only the new version has.
        changed: those of which something differs: input, target, choices, references or metadata.
        removed: those that only the old version has.
    """

    added: Ids
    changed: Ids
    removed: Ids

    @property
    def is_empty(self) -> bool:
        """Whether both versions have the same rows."""
        return not (self.added.count or self.changed.count or self.removed.count)


def diff_rows(old: Path, new: Path, tasks: Iterable[str], limit: int | None = None) -> dict[str, RowsDiff]:
    """Compare the rows of these tasks in two files with the table of ``udr.demonstrations.SCHEMA``.

    Args:
        old: one file.
        new: the other.
        tasks: the tasks; a file may lack some.
        limit: the most ids to name of each kind; None names all. All are counted.

    Raises:
        ArtifactError: a file is missing or not such a file.
    """
    try:
        with closing(sqlite3.connect(read_only_uri(old), uri=True)) as connection:
            connection.execute("ATTACH ? AS new", (read_only_uri(new),))
            return {
                task: RowsDiff(
                    added=_ids(connection.execute(_ADDED, (task,)), limit),
                    changed=_ids(connection.execute(_CHANGED, (task,)), limit),
                    removed=_ids(connection.execute(_REMOVED, (task,)), limit),
                )
                for task in tasks
            }
    except sqlite3.Error as error:
        raise ArtifactError(f"{old} and {new}: cannot be compared ({error}); run: udr index verify") from error


def _ids(found: sqlite3.Cursor, limit: int | None) -> Ids:
    first = tuple(str(id) for (id,) in itertools.islice(found, limit))
    return Ids(len(first) + sum(1 for _ in found), first)
