"""SQLite files that others may have made: opened as data, with exactly our tables and a bound for each query."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

QUERY_SECONDS = 5.0
"""The processor time that one query may take; the slowest of ours takes a hundredth of a second."""

_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the clock, about a millisecond."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 256 * 1024 * 1024,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}


def read_only_uri(path: Path) -> str:
    """Return the URI by which SQLite opens an immutable file without locking it, even on a read-only disk."""
    return f"{path.resolve().as_uri()}?mode=ro&immutable=1"


def open_read_only(path: Path, schema: str, *, attached: int = 0) -> sqlite3.Connection:
    """Open a file that is not written any more, and that has the tables of a schema and nothing else.

    Args:
        path: the file.
        schema: the statements that made it.
        attached: how many other files may be attached.

    Raises:
        sqlite3.Error: the file cannot be read, is not a database, or has another schema.
    """
    connection = sqlite3.connect(read_only_uri(path), uri=True, check_same_thread=False)
    try:
        distrust(connection)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, attached)
        check_schema(connection, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def distrust(connection: sqlite3.Connection) -> None:
    """Treat a database as data: its schema calls no functions, its pages are checked, and values have limits."""
    for limit, most in _LIMITS.items():
        connection.setlimit(limit, most)
    # A file that is mapped and then truncated would kill the process.
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}").close()


def check_schema(connection: sqlite3.Connection, schema: str, database: str = "main") -> None:
    """Raise ``sqlite3.DatabaseError`` unless a database has the tables and indexes of ``schema`` and nothing else."""
    with bounded(connection):
        found = _objects(connection, database)
    expected = _expected(schema)
    if wrong := found ^ expected:
        kind, name, _ = min(wrong, key=lambda item: (item in expected, item))
        names = ", ".join(sorted(name for kind, name, _ in expected if kind == "table"))
        what = "is missing or altered" if name in {name for _, name, _ in expected} else "is not ours"
        problem = f"{kind[:20]} {name[:60]!r} {what}"
        raise sqlite3.DatabaseError(f"{problem}; it must have the tables {names} as udr writes them, and nothing else")


@contextmanager
def bounded(connection: sqlite3.Connection, seconds: float = QUERY_SECONDS) -> Iterator[None]:
    """Stop the queries of the block when they have taken this much processor time.

    Raises:
        sqlite3.OperationalError: they have.
        sqlite3.DatabaseError: they found text that is not UTF-8.
    """
    # Processor time: a disk that stalls is no fault of the file.
    end = time.thread_time() + seconds
    connection.set_progress_handler(lambda: time.thread_time() > end, _STEPS)
    try:
        yield
    except UnicodeDecodeError as error:
        # Raised for a name; for a value, sqlite3 raises its own error.
        raise sqlite3.DatabaseError("it holds text that is not UTF-8") from error
    except sqlite3.OperationalError as error:
        if time.thread_time() > end:
            raise sqlite3.OperationalError(f"a query took more than {seconds:g} seconds") from error
        raise
    finally:
        connection.set_progress_handler(None, 0)


@cache
def _expected(schema: str) -> frozenset[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return _objects(connection, "main")


def _objects(connection: sqlite3.Connection, database: str) -> frozenset[tuple[str, str, str]]:
    rows = connection.execute(f"SELECT type, name, sql FROM {database}.sqlite_schema LIMIT 100").fetchall()
    return frozenset((str(kind), str(name), " ".join(str(sql).split())) for kind, name, sql in rows)
