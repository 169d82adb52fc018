"""Reading rows into the table of an index version. Memory holds one row, whatever their number."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from udr.data import Task, TaskFolder, encoder_demonstration, no_row, numbered_rows, read_rows, sample_hash
from udr.store import SCHEMA, record
from udr.types import Row

# Rows are read in the order of their files and stored in the order of their ids, so SQLite sorts them. Each row is
# rendered here, once: its key, its vector and its token count are all made from `text`.
_INCOMING = """
    CREATE TABLE incoming (
        task TEXT NOT NULL, id TEXT NOT NULL, copy_key BLOB NOT NULL, text_key BLOB NOT NULL, row TEXT NOT NULL,
        text TEXT NOT NULL, PRIMARY KEY (task, id)
    ) WITHOUT ROWID;
"""
_SAMPLE = """
    DELETE FROM incoming WHERE task = :task AND id NOT IN (
        SELECT id FROM incoming WHERE task = :task ORDER BY place(id), id LIMIT :size
    );
"""
_SORT = """
    INSERT INTO demonstrations
    SELECT task, ROW_NUMBER() OVER (PARTITION BY task ORDER BY id) - 1, id, copy_key, text_key, row
    FROM incoming.incoming ORDER BY task, id;
"""
_REPORT_EVERY = 1000


@dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a task, in any order: a function that yields them, and one that raises what is wrong with them."""

    task: Task
    rows: Callable[[], Iterator[Row]]
    refuse: Callable[[], None]

    @classmethod
    def of(cls, folder: TaskFolder, holds: Callable[[str], bool] = lambda id: True) -> "TaskRows":
        """Return the training rows of a task's folder, those whose ids pass ``holds``."""
        task, path = folder.task, folder.file("train")

        def refuse() -> None:
            # Raises the error that names both lines of an id that is used twice.
            if not sum(1 for _ in read_rows(task, path)):
                raise no_row(task, path)

        return cls(task, lambda: (row for _, row in numbered_rows(task, path) if holds(row.id)), refuse)


@dataclass(frozen=True, slots=True)
class IngestedRows:
    """The table of a build's rows, a file to be moved into the version, and the sorted tasks with their sizes."""

    path: Path
    sizes: Mapping[str, int]
    _incoming: sqlite3.Connection

    def texts(self, task: str, ids: Sequence[str]) -> list[str]:
        """Return what the encoder reads of these rows."""
        query = "SELECT text FROM incoming WHERE task = ? AND id = ?"
        return [text for id in ids for (text,) in self._incoming.execute(query, (task, id))]


@contextmanager
def ingest(
    path: Path,
    tasks: Iterable[TaskRows],
    size: int | None,
    seed: int,
    advance: Callable[[int], object],
    on_texts: Callable[[Sequence[str]], object] = lambda _: None,
) -> Iterator[IngestedRows]:
    """Write the rows of tasks to a new table. The same rows in any order give the same bytes.

    The files ``path`` and ``<path>.incoming`` are replaced, and deleted at the end. At most ``size`` rows of each task
    are taken, sampled by seed; None takes all. ``advance`` is called with the number of rows read since the last call,
    and ``on_texts`` with the texts of these rows as the encoder reads them.

    Raises:
        DataError: a file is missing or empty, or a row is invalid.
    """
    incoming = path.with_name(f"{path.name}.incoming")
    _delete(path, incoming)
    try:
        with closing(open_unsafe(incoming, _INCOMING)) as connection:
            connection.create_function("place", 1, lambda id: sample_hash(seed, id), deterministic=True)
            with connection:
                for each in tasks:
                    _read(connection, each, advance, on_texts)
                    if size is not None:
                        connection.execute(_SAMPLE, {"task": each.task.name, "size": size})
            with closing(open_unsafe(path, SCHEMA)) as table:
                table.execute("ATTACH ? AS incoming", (str(incoming),))
                with table:
                    table.execute(_SORT)
                sizes = dict(table.execute("SELECT task, count(*) FROM demonstrations GROUP BY task ORDER BY task"))
            yield IngestedRows(path, sizes, connection)
    finally:
        _delete(path, incoming)


def _read(
    connection: sqlite3.Connection,
    source: TaskRows,
    advance: Callable[[int], object],
    on_texts: Callable[[Sequence[str]], object],
) -> None:
    task, count, texts = source.task, 0, list[str]()

    def records() -> Iterator[tuple[str | bytes, ...]]:
        nonlocal count
        for count, row in enumerate(source.rows(), start=1):
            text = encoder_demonstration(task, row)
            yield *record(task, row, text), text
            texts.append(text)
            if count % _REPORT_EVERY == 0:
                advance(_REPORT_EVERY)
                on_texts(texts)
                texts.clear()

    try:
        connection.executemany("INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)", records())
    except sqlite3.IntegrityError:
        # An id is used twice.
        source.refuse()
        raise
    if not count:
        source.refuse()
    advance(count % _REPORT_EVERY)
    on_texts(texts)


def _delete(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def open_unsafe(path: Path, schema: str = "") -> sqlite3.Connection:
    """Open a file without journal and sync: a build that is killed writes it anew."""
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {schema}")
    return connection
