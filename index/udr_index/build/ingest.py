"""Reading pools into the table of an index version, row by row: memory holds one row, whatever their number."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from udr.data import TaskFolder, no_row, numbered_rows, place, read_rows
from udr.store import SCHEMA, record

# Rows come in the order of their files and are wanted in that of their ids; SQLite sorts them as they come.
_INCOMING = """
    CREATE TABLE incoming (
        task TEXT NOT NULL, id TEXT NOT NULL, copy_key BLOB NOT NULL, text_key BLOB NOT NULL, row TEXT NOT NULL,
        PRIMARY KEY (task, id)
    ) WITHOUT ROWID;
"""
_CUT = """
    DELETE FROM incoming WHERE task = :task AND id NOT IN (
        SELECT id FROM incoming WHERE task = :task ORDER BY place(id), id LIMIT :size
    );
"""
_IN_ORDER = """
    INSERT INTO demonstrations
    SELECT task, ROW_NUMBER() OVER (PARTITION BY task ORDER BY id) - 1, id, copy_key, text_key, row
    FROM incoming.incoming ORDER BY task, id;
"""
_TOLD_EVERY = 1000


def ingest(
    path: Path, folders: Iterable[TaskFolder], size: int | None, seed: int, read: Callable[[int], None]
) -> dict[str, int]:
    """Write the training rows of these tasks to a new table; the same rows in any order give the same bytes.

    Args:
        path: the file; what is there, or beside it under its name and ``.incoming``, is replaced.
        folders: the tasks.
        size: at most so many rows of each task, chosen by seed; None takes all.
        seed: of that choice.
        read: is told how many more rows are read.

    Returns:
        How many rows each task has, by name, in the order of the names.

    Raises:
        DataError: a file is missing, holds no row, or one that is wrong.
    """
    incoming = path.with_name(f"{path.name}.incoming")
    for old in (path, incoming):
        old.unlink(missing_ok=True)
    try:
        with closing(unsafe(incoming, _INCOMING)) as connection, connection:
            connection.create_function("place", 1, lambda id: place(seed, id), deterministic=True)
            for folder in folders:
                _read(connection, folder, read)
                if size is not None:
                    connection.execute(_CUT, {"task": folder.task.name, "size": size})
        with closing(unsafe(path, SCHEMA)) as connection:
            connection.execute("ATTACH ? AS incoming", (str(incoming),))
            with connection:
                connection.execute(_IN_ORDER)
            return dict(connection.execute("SELECT task, count(*) FROM demonstrations GROUP BY task ORDER BY task"))
    finally:
        incoming.unlink(missing_ok=True)


def _read(connection: sqlite3.Connection, folder: TaskFolder, read: Callable[[int], None]) -> None:
    path, count = folder.file("train"), 0

    def records() -> Iterator[tuple[str, str, bytes, bytes, str]]:
        nonlocal count
        for count, (_, row) in enumerate(numbered_rows(folder.task, path), start=1):
            yield record(folder.task, row)
            if count % _TOLD_EVERY == 0:
                read(_TOLD_EVERY)

    try:
        connection.executemany("INSERT INTO incoming VALUES (?, ?, ?, ?, ?)", records())
    except sqlite3.IntegrityError:
        # An id came twice. This reads from the beginning, and says which, and on what lines.
        for _ in read_rows(folder.task, path):
            continue
        raise
    if not count:
        raise no_row(folder.task, path)
    read(count % _TOLD_EVERY)


def unsafe(path: Path, schema: str = "") -> sqlite3.Connection:
    """Open a file that is begun anew unless it becomes whole, and so needs neither a journal nor a sync."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(schema)
    return connection
