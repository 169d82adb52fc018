"""Rows of a task, read from JSONL, CSV or Parquet and validated one by one."""

import csv
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from udr.data.task import Kind, Task
from udr.errors import DataError
from udr.types import Json, Row, Value

SUFFIXES = (".jsonl", ".csv", ".parquet")
"""The file types of a split."""

VALUES = "a string, number, true, false, null or a list"
"""The types of an input field, in words."""

_KEYS = ("id", "input", "target", "choices", "references", "metadata")


def read_rows(task: Task, path: Path) -> Iterator[Row]:
    """Yield the rows of a file in its order, each validated against the task.

    Args:
        task: the task they belong to.
        path: a ``.jsonl``, ``.csv`` or ``.parquet`` file. In CSV, and in Parquet without a column ``input``,
            each column other than ``id``, ``target``, ``choices``, ``references`` and ``metadata`` is an
            input field; in CSV the last three hold JSON.

    Raises:
        DataError: a row is invalid or its id was used before; the message names the file, line and field.
    """
    seen: dict[str, int] = {}
    for line, row in numbered_rows(task, path):
        if row.id in seen:
            raise DataError(f"{row.id!r} was already used on line {seen[row.id]}", path=path, line=line, field="id")
        seen[row.id] = line
        yield row


def numbered_rows(task: Task, path: Path) -> Iterator[tuple[int, Row]]:
    """Yield line number and row as ``read_rows`` does, without checking for duplicate ids, in constant memory.

    Raises:
        DataError: a row is invalid.
    """
    for line, keys in _READERS[path.suffix](path):
        yield line, parse_row(task, keys, path, line)


def parse_row(task: Task, keys: Mapping[str, object], path: Path | None = None, line: int | None = None) -> Row:
    """Return the row that these keys define.

    Raises:
        DataError: a key or field is missing, unknown or has the wrong type, or the target is not an option.
    """
    return _RowReader(task, keys, path, line).row()


@dataclass(frozen=True, slots=True)
class _RowReader:
    task: Task
    keys: Mapping[str, object]
    path: Path | None
    line: int | None

    def row(self) -> Row:
        for key in self.keys:
            if key not in _KEYS:
                raise self.error(key, f"unknown key; the known keys are {', '.join(_KEYS)}")
        target = self.text("target")
        choices = self.texts("choices")
        self.check_target(target, choices)
        metadata = self.keys.get("metadata")
        if metadata is None:
            metadata = {}
        if not isinstance(metadata, Mapping) or not _is_json(metadata):
            raise self.error("metadata", f"must be a JSON object, found {reprlib.repr(metadata)}")
        return Row(
            id=self.text("id"),
            input=self.input(choices),
            target=target,
            choices=choices,
            references=self.texts("references"),
            metadata=cast("Mapping[str, Json]", metadata),
        )

    def error(self, field: str, message: str) -> DataError:
        return DataError(message, path=self.path, line=self.line, field=field)

    def text(self, key: str) -> str:
        if key not in self.keys:
            raise self.error(key, "is missing")
        value = self.keys[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a non-empty string, found {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.keys.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(key, f"must be a list of non-empty strings, found {value!r}")
        return tuple(value)

    def input(self, choices: tuple[str, ...]) -> Mapping[str, Value]:
        fields = self.keys.get("input")
        if not isinstance(fields, Mapping):
            raise self.error("input", f"must be an object of fields, found {fields!r}")
        for name, value in fields.items():
            if not is_value(value):
                raise self.error(f"input.{name}", f"must be {VALUES}, found {reprlib.repr(value)}")
        for name in self.task.fields:
            if name not in fields and not (name == "choices" and choices):
                raise self.error(
                    f"input.{name}",
                    f"is missing, but the input template of task {self.task.name!r} uses it; "
                    f"found {', '.join(map(repr, fields)) or 'no fields'}",
                )
        return cast("Mapping[str, Value]", fields)

    def check_target(self, target: str, choices: tuple[str, ...]) -> None:
        if self.task.kind is Kind.CLASSIFICATION and target not in self.task.labels:
            raise self.error("target", f"{target!r} is not one of the labels {', '.join(self.task.labels)}")
        if self.task.kind is Kind.MULTIPLE_CHOICE:
            if len(choices) < 2 or len(set(choices)) < len(choices):
                raise self.error("choices", f"must be at least two different choices, found {list(choices)}")
            if target not in choices:
                raise self.error("target", f"{target!r} is not one of the choices {list(choices)}")


def is_value(value: object, depth: int = 16) -> bool:
    """Return whether ``value`` is a valid input field: one of ``VALUES``, with lists nested at most ``depth`` deep."""
    if isinstance(value, list | tuple):
        return depth > 0 and all(is_value(item, depth - 1) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)


def _is_json(value: object) -> bool:
    # Parquet has types that JSON lacks: dates, bytes, NaN.
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, text in _lines(path):
        if not text.strip():
            continue
        keys = _parse_json(text, path, line)
        if not isinstance(keys, dict):
            raise DataError(f"must be an object, found {text.strip()[:60]!r}", path=path, line=line)
        yield line, keys


def _parse_json(text: str, path: Path, line: int, field: str | None = None) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
        if "\\u" in text:
            # An escape can be a lone surrogate, which UTF-8 cannot encode.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", path=path, line=line, field=field) from error
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError(f"an object has a duplicate key, among {', '.join(repr(key) for key, _ in pairs)}")
    return keys


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not a JSON number")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a UTF-8 file, split at newlines only, as in JSONL."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                message = f"not UTF-8: byte {error.start} of the line ({error.reason})"
                raise DataError(message, path=path, line=line) from error
            yield line, text


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader((text for _, text in _lines(path)), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise DataError("is empty; the first line must hold the column names", path=path)
        if len(set(header)) < len(header):
            raise DataError(f"two columns have the same name: {header}", path=path, line=1)
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(header):
                raise DataError(f"has {len(cells)} cells, but the header has {len(header)}", path=path, line=line)
            yield line, _from_columns({**dict(zip(header, cells, strict=True))}, path, line)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path=path, line=reader.line_num) from error


def _from_columns(cells: dict[str, str], path: Path, line: int) -> dict[str, object]:
    keys: dict[str, object] = {"input": {name: cell for name, cell in cells.items() if name not in _KEYS}}
    for name in ("id", "target"):
        if name in cells:
            keys[name] = cells[name]
    for name in ("choices", "references", "metadata"):
        if cells.get(name):
            keys[name] = _parse_json(cells[name], path, line, name)
    return keys


def _read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    # pyarrow is an extra that only Parquet needs.
    from udr.data.parquet import read_records

    for line, record in enumerate(read_records(path), start=1):
        keys: dict[str, object] = {name: value for name, value in record.items() if name in _KEYS and value is not None}
        if "input" not in record:
            keys["input"] = {name: value for name, value in record.items() if name not in _KEYS}
        yield line, keys


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
