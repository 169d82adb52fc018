"""The demonstrations of an index version: a SQLite file that is written once and then only read."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from udr.data import Task, copy_key, row_text, text_key
from udr.errors import ArtifactError, reason
from udr.store.rows.kept import KeptRows
from udr.store.untrusted import bounded, open_read_only
from udr.types import Json, Row, TokenCount, is_value

# A row is JSON in the order of its own keys, so that it round-trips. `copy_key` finds the few rows whose input can be a
# copy of a query's, `text_key` rows that are the same to an encoder.
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
"""The tables of an index version; a row's position is its index among its task's rows, in the order of their ids.

``tokens`` has the token counts of rows as a prompt shows them. It is a separate table because rows are counted last,
when it is known which of them an earlier version has counted.
"""

_SAMPLE = 64

_FIRST_SPAN, _SPAN_LENGTH = 64, 8_000_000
"""Of a reading of all rows: how many come at once at first, and the characters that later ones have on average."""

_TYPES: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "position": (int,),
    "id": (str,),
    "row": (str,),
    "text_key": (bytes,),
    "count": (int, type(None)),
}
"""SQLite stores a value of any type in any column, whatever the schema says."""

_COUNT = "SELECT count FROM tokens WHERE (task, position) = (demonstrations.task, demonstrations.position)"


def record(task: Task, row: Row, text: str) -> tuple[str, str, bytes, bytes, str]:
    """Return a row's columns, except its position; ``text`` is what encoders read of it."""
    return task.name, row.id, copy_key(task, row.input, row.choices), text_key(text), row_text(row)


class DemonstrationTable:
    """Reads the rows of an index version; thread-safe. Its methods return rows in the order of the positions given.

    Args:
        path: a file with the tables of ``SCHEMA``, and nothing else.
        tokenizer: the fingerprint of the tokenizer whose counts it has; None if it has none.
        span: how many rows to read at once, at most, when reading all.

    Raises:
        ArtifactError: the file is missing or damaged; all methods may raise it.
    """

    def __init__(self, path: Path, tokenizer: str | None = None, *, span: int = 10_000) -> None:
        self._path, self._tokenizer, self._span_size = path, tokenizer, span
        self._lock, self._kept = threading.Lock(), KeptRows()
        try:
            self._connection = open_read_only(path, SCHEMA)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def ids(self, task: str, positions: Sequence[int]) -> list[str]:
        """Return the ids of the rows at these positions."""
        found = self._kept.ids(task, positions)
        missing = [position for position in dict.fromkeys(positions) if position not in found]
        found.update(zip(missing, (id for (id,) in self._at("id", task, missing)), strict=True))
        return [found[position] for position in positions]

    def rows(self, task: str, positions: Sequence[int]) -> list[Row]:
        """Return the rows at these positions."""
        return [self._row(text) for (text,) in self._at("row", task, positions)]

    def counted_rows(self, task: str, positions: Sequence[int]) -> list[tuple[Row, TokenCount | None]]:
        """Return the rows at these positions, each with its token count, if known."""
        found = self._kept.get(task, positions)
        missing = [position for position in dict.fromkeys(positions) if position not in found]
        values = self._at(f"row, ({_COUNT}) AS count", task, missing)
        for position, (text, count) in zip(missing, values, strict=True):
            found[position] = self._row(text), self._token_count(count)
            self._kept.keep(task, position, *found[position], len(text))
        return [found[position] for position in positions]

    def token_counts(self, task: str, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return the token counts of a task's rows with these text keys, as far as known."""
        rows = "demonstrations INDEXED BY by_text_key WHERE text_key = ? AND task = ?"
        query = f"SELECT ({_COUNT}) AS count FROM {rows} LIMIT 1"
        counts = {key: self._first(query, key, task) for key in keys}
        return {key: row[0] for key, row in counts.items() if row and row[0] is not None}

    def row_bytes(self, task: str) -> int:
        """Return about how many characters a row of a task has, as JSON: the mean of the first ones."""
        query = "SELECT avg(length(row)) FROM (SELECT row FROM demonstrations WHERE task = ? AND position < ?)"
        mean = self._first(query, task, _SAMPLE)
        return int(mean[0]) if mean and mean[0] is not None else 0

    def row(self, task: str, id: str) -> Row | None:
        """Return the row with that id, or None."""
        row = self._first("SELECT row FROM demonstrations WHERE task = ? AND id = ?", task, id)
        return self._row(row[0]) if row else None

    def copies(self, task: str, keys: Iterable[bytes]) -> dict[int, str]:
        """Return the ids of the rows whose input has one of these copy keys, by position; not all need be copies."""
        # Without the hint, SQLite scans the task's rows.
        query = "SELECT position, id FROM demonstrations INDEXED BY by_copy_key WHERE task = ? AND copy_key = ?"
        return dict(row for key in keys for row in self._select(query, task, key))

    def positions(self, task: str, ids: Iterable[str]) -> dict[int, str]:
        """Return the ids of those rows of a task that have one of these ids, by position."""
        query = "SELECT position, id FROM demonstrations WHERE task = ? AND id IN (SELECT value FROM json_each(?))"
        wanted = set(ids)
        # SQLite reads text only up to a NUL, and may so find others.
        rows = self._select(query, task, json.dumps(sorted(wanted)))
        return {position: id for position, id in rows if id in wanted}

    def position_after(self, task: str, id: str) -> int | None:
        """Return the position of the first row of a task whose id comes after this one; None if there is none."""
        query = "SELECT position FROM demonstrations INDEXED BY by_id WHERE task = ? AND id > ? ORDER BY id LIMIT 1"
        row = self._first(query, task, id)
        return row[0] if row else None

    def text_keys(self, task: str, start: int, stop: int) -> list[bytes]:
        """Return the text keys of the rows at positions ``start`` to ``stop``, exclusive."""
        return self._span("text_key", task, start, stop)

    def first(self, key: bytes, task: str | None = None) -> tuple[str, int] | None:
        """Return the task and position of the first row with this text key, of one task or of all, or None."""
        query = (
            "SELECT task, position FROM demonstrations INDEXED BY by_text_key WHERE text_key = ?"
            f"{'' if task is None else ' AND task = ?'} ORDER BY task, position LIMIT 1"
        )
        row = self._first(query, key, *(() if task is None else (task,)))
        return (row[0], row[1]) if row else None

    def targets(self, task: str) -> list[str]:
        """Return the targets of all rows of a task."""
        # For one path, SQLite returns the text itself, up to the first NUL in it; for several, JSON.
        try:
            targets = [json.loads(values)[0] for values in self._values("json_extract(row, '$.target', '$.id')", task)]
            # Raises unless all are texts.
            "".join(targets)
        except (TypeError, ValueError) as error:
            raise self._invalid("a target is not a text") from error
        return targets

    def all_ids(self, task: str) -> Iterator[str]:
        """Yield the ids of all rows of a task."""
        return self._values("id", task)

    def metadata(self, task: str) -> Iterator[Mapping[str, Json]]:
        """Yield the metadata of all rows of a task."""
        for text in self._values("json_extract(row, '$.metadata')", task):
            try:
                metadata = {} if text is None else json.loads(text)
            except (TypeError, ValueError, RecursionError) as error:
                raise self._invalid(f"metadata is not as udr writes it ({type(error).__name__})") from error
            if not isinstance(metadata, dict):
                raise self._invalid("metadata is no object")
            yield metadata

    def lines(self, task: str) -> Iterator[bytes]:
        """Yield the rows of a task as JSON lines, for hashing."""
        return (f"\n{text}".encode() for text in self._values("row", task))

    def every(self, task: str) -> Iterator[Row]:
        """Yield the rows of a task."""
        return (self._row(text) for text in self._values("row", task))

    def close(self) -> None:
        """Close the file; the table cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def _values(self, column: str, task: str) -> Iterator[Any]:
        start, size = 0, min(_FIRST_SPAN, self._span_size)
        while values := self._span(column, task, start, start + size):
            yield from values
            if len(values) < size:
                return
            # As many rows as take some megabytes: long ones would take as much time and memory as thousands of others.
            start, length = start + size, sum(len(value) for value in values if isinstance(value, str))
            size = min(self._span_size, max(1, _SPAN_LENGTH * len(values) // max(1, length)))

    def _span(self, column: str, task: str, start: int, stop: int) -> list[Any]:
        span = "task = ? AND position >= ? AND position < ? ORDER BY position"
        rows = self._select(f"SELECT {column} FROM demonstrations WHERE {span}", task, start, stop)
        return [value for (value,) in rows]

    def _at(self, columns: str, task: str, positions: Sequence[int]) -> list[tuple[Any, ...]]:
        chosen = "task = ? AND position IN (SELECT value FROM json_each(?))"
        query = f"SELECT position, {columns} FROM demonstrations WHERE {chosen}"
        if not (wanted := [int(position) for position in positions]):
            return []
        rows = {position: tuple(values) for position, *values in self._select(query, task, json.dumps(wanted))}
        try:
            return [rows[position] for position in wanted]
        except KeyError as error:
            raise self._invalid(f"task {task!r} has no row at position {error}") from error

    def _first(self, query: str, *values: str | bytes | int) -> tuple[Any, ...] | None:
        return next(iter(self._select(query, *values)), None)

    def _select(self, query: str, *values: str | bytes | int) -> list[tuple[Any, ...]]:
        try:
            with self._lock, bounded(self._connection):
                cursor = self._connection.execute(query, values)
                rows = cursor.fetchall()
        except UnicodeEncodeError:
            # SQLite holds no text with a lone surrogate, so no row has such an id.
            return []
        except sqlite3.Error as error:
            raise self._broken(error) from error
        for column, (name, *_) in enumerate(cursor.description):
            types = _TYPES.get(name)
            if types and not all(isinstance(row[column], types) for row in rows):
                raise self._invalid(f"the column {name} has a value of another type")
        return rows

    def _row(self, text: str) -> Row:
        try:
            keys = json.loads(text)
            choices, references = (tuple(keys.pop(name, ())) for name in ("choices", "references"))
            row = Row(**keys, choices=choices, references=references)
            texts = all(isinstance(text, str) for text in (row.id, row.target, *choices, *references))
            if not texts or not all(map(is_value, row.input.values())) or not isinstance(row.metadata, dict):
                raise TypeError("a key has another type")
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._invalid(f"a row is not as udr writes it ({type(error).__name__})") from error
        return row

    def _token_count(self, count: int | None) -> TokenCount | None:
        if self._tokenizer is None or count is None:
            return None
        if count < 0:
            raise self._invalid("a row's number of tokens is below 0")
        return TokenCount(tokenizer=self._tokenizer, count=count)

    def _invalid(self, problem: str) -> ArtifactError:
        return ArtifactError(f"{self._path}: {problem}; run: udr index verify")

    def _broken(self, error: sqlite3.Error) -> ArtifactError:
        # SQLite quotes the schema in some of its messages.
        return self._invalid(f"cannot be read ({reason(error)[:200]})")
