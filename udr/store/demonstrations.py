"""The demonstrations of an index version: a SQLite file that is created once and only read from then on."""

import itertools
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from udr.data import Task, copy_key, encoder_demonstration, row_text, text_key
from udr.errors import ArtifactError
from udr.types import Row, TokenCount

# A row is kept as JSON, in the order of its own keys, so that it comes out as it went in. `copy_key` finds the
# rows whose input is a copy of a query's without reading them, `text_key` those of which an encoder reads the same.
SCHEMA = """
    CREATE TABLE demonstrations (
        task TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL,
        copy_key BLOB NOT NULL, text_key BLOB NOT NULL, row TEXT NOT NULL,
        PRIMARY KEY (task, position)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX by_id ON demonstrations (task, id);
    CREATE INDEX by_copy_key ON demonstrations (task, copy_key);
    CREATE INDEX by_text_key ON demonstrations (text_key);
    CREATE TABLE tokens (
        task TEXT NOT NULL, position INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (task, position)
    ) WITHOUT ROWID;
"""
"""The tables of an index version; a row's position is its place among its task's, in the order of their ids.

``tokens`` says how many tokens rows are as a prompt shows them. It is a table of its own because rows are counted
last, when it is known which there are, and whose counts an earlier version has already.
"""


_SPAN = 10_000
"""Rows that are read at once where all are."""

_COUNT = (
    "SELECT count FROM tokens WHERE tokens.task = demonstrations.task AND tokens.position = demonstrations.position"
)


def record(task: Task, row: Row) -> tuple[str, str, bytes, bytes, str]:
    """Return what the table keeps of a row, but its position: task, id, copy key, text key and row."""
    copies = copy_key(task, row.input, row.choices)
    return task.name, row.id, copies, text_key(encoder_demonstration(task, row)), row_text(row)


def read_only_uri(path: Path) -> str:
    """Return what SQLite opens a file by that no one changes: it needs no lock, and may lie where none can be made."""
    return f"{path.resolve().as_uri()}?mode=ro&immutable=1"


class DemonstrationTable:
    """Reads the rows of an index version; may be used by several threads.

    Args:
        path: a file with the tables of ``SCHEMA``.
        tokenizer: the fingerprint of the tokenizer whose counts it holds; None where it holds none.

    Raises:
        ArtifactError: the file is missing or not such a file; methods raise it for what they find broken.
    """

    def __init__(self, path: Path, tokenizer: str | None = None) -> None:
        self._path, self._tokenizer = path, tokenizer
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(read_only_uri(path), uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def ids(self, task: str, positions: Sequence[int]) -> list[str]:
        """Return the ids of the rows at these positions, in the order asked for."""
        return [id for (id,) in self._at("id", task, positions)]

    def rows(self, task: str, positions: Sequence[int]) -> list[Row]:
        """Return the rows at these positions, in the order asked for."""
        return [_row(text) for (text,) in self._at("row", task, positions)]

    def counted_rows(self, task: str, positions: Sequence[int]) -> list[tuple[Row, TokenCount | None]]:
        """Return what ``rows`` does, and beside each row how many tokens it is, where that is known."""
        found = self._at(f"row, ({_COUNT})", task, positions)
        return [(_row(text), self._token_count(count)) for text, count in found]

    def token_counts(self, task: str, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return how many tokens rows of a task are, by their text keys; without those that are not there."""
        query = f"SELECT ({_COUNT}) FROM demonstrations INDEXED BY by_text_key WHERE text_key = ? AND task = ? LIMIT 1"
        found = {key: self._select(query, key, task) for key in keys}
        return {key: int(rows[0][0]) for key, rows in found.items() if rows and rows[0][0] is not None}

    def row(self, task: str, id: str) -> Row | None:
        """Return the row of that id, or None."""
        found = self._select("SELECT row FROM demonstrations WHERE task = ? AND id = ?", task, id)
        return _row(str(found[0][0])) if found else None

    def copies(self, task: str, keys: Iterable[bytes]) -> set[str]:
        """Return the ids of the rows whose input has one of these copy keys."""
        # Left to itself, SQLite reads the task's rows one after another.
        query = "SELECT id FROM demonstrations INDEXED BY by_copy_key WHERE task = ? AND copy_key = ?"
        return {str(id) for key in keys for (id,) in self._select(query, task, key)}

    def text_keys(self, task: str, start: int, stop: int) -> list[bytes]:
        """Return the text keys of the rows from position ``start`` to before ``stop``."""
        return [bytes(key) for key in self._span("text_key", task, start, stop)]

    def first(self, key: bytes, task: str | None = None) -> tuple[str, int] | None:
        """Return task and position of the first row with this text key, of one task or of all, or None."""
        query = "SELECT task, position FROM demonstrations INDEXED BY by_text_key WHERE text_key = ?"
        found = (
            self._select(f"{query} ORDER BY task, position LIMIT 1", key)
            if task is None
            else self._select(f"{query} AND task = ? ORDER BY position LIMIT 1", key, task)
        )
        return (str(found[0][0]), int(found[0][1])) if found else None

    def targets(self, task: str) -> list[str]:
        """Return the targets of all rows of a task in their order."""
        # Of one path, SQLite would give the text itself, up to the first NUL in it; of several, it gives JSON.
        return [json.loads(one)[0] for one in self._values("json_extract(row, '$.target', '$.id')", task)]

    def lines(self, task: str) -> Iterator[bytes]:
        """Yield the rows of a task in their order, for hashing."""
        return (f"\n{text}".encode() for text in self._values("row", task))

    def every(self, task: str) -> Iterator[Row]:
        """Yield the rows of a task in their order."""
        return (_row(text) for text in self._values("row", task))

    def close(self) -> None:
        """Close the file; the table is of no use after that."""
        with self._lock:
            self._connection.close()

    def _token_count(self, count: int | None) -> TokenCount | None:
        return None if self._tokenizer is None or count is None else TokenCount(tokenizer=self._tokenizer, count=count)

    def _values(self, column: str, task: str) -> Iterator[Any]:
        for start in itertools.count(0, _SPAN):
            span = self._span(column, task, start, start + _SPAN)
            yield from span
            if len(span) < _SPAN:
                return

    def _span(self, column: str, task: str, start: int, stop: int) -> list[Any]:
        query = (
            f"SELECT {column} FROM demonstrations WHERE task = ? AND position >= ? AND position < ? ORDER BY position"
        )
        return [value for (value,) in self._select(query, task, start, stop)]

    def _at(self, columns: str, task: str, positions: Sequence[int]) -> list[tuple[Any, ...]]:
        query = (
            f"SELECT position, {columns} FROM demonstrations "
            "WHERE task = ? AND position IN (SELECT value FROM json_each(?))"
        )
        wanted = [int(position) for position in positions]
        found = {position: values for position, *values in self._select(query, task, json.dumps(wanted))}
        try:
            return [tuple(found[position]) for position in wanted]
        except KeyError as error:
            raise ArtifactError(
                f"{self._path}: task {task!r} has no row at position {error}; run: udr index verify"
            ) from error

    def _select(self, query: str, *values: str | bytes | int) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> ArtifactError:
        return ArtifactError(f"{self._path}: cannot be read ({error}); run: udr index verify")


def _row(text: str) -> Row:
    keys = json.loads(text)
    return Row(
        id=keys["id"],
        input=keys["input"],
        target=keys["target"],
        choices=tuple(keys.get("choices", ())),
        references=tuple(keys.get("references", ())),
        metadata=keys.get("metadata", {}),
    )
