"""Rows of a task, read from JSONL, CSV or Parquet and validated one by one."""

import csv
import json
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from udr.data.keys import Keys
from udr.data.task import Kind, Task
from udr.errors import DataError
from udr.types import VALUES, Json, Row, Value, is_value

SUFFIXES = (".jsonl", ".csv", ".parquet")
"""The file types of a split."""

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
    """Yield line number and row as ``read_rows`` does, without checking for duplicate ids, in constant memory."""
    for line, values in _READERS[path.suffix](path):
        yield line, parse_row(task, values, path, line)


def parse_row(task: Task, values: Mapping[str, object], path: Path | None = None, line: int | None = None) -> Row:
    """Return the row that these keys define.

    Raises:
        DataError: a key or field is missing, unknown or has the wrong type, or the target is not an option.
    """
    keys = Keys(values, path, line)
    keys.refuse_unknown(_KEYS)
    target = keys.text("target")
    choices, references = (keys.texts(key) if values.get(key) is not None else () for key in ("choices", "references"))
    _check_target(keys, task, target, choices)
    return Row(
        id=keys.text("id"),
        input=_input(keys, task, choices),
        target=target,
        choices=choices,
        references=references,
        metadata=_metadata(keys),
    )


def _check_target(keys: Keys, task: Task, target: str, choices: tuple[str, ...]) -> None:
    if task.kind is Kind.CLASSIFICATION and target not in task.labels:
        raise keys.error("target", f"{target!r} is not one of the labels {', '.join(task.labels)}")
    if task.kind is Kind.MULTIPLE_CHOICE:
        keys.check_distinct("choices", choices)
        if target not in choices:
            raise keys.error("target", f"{target!r} is not one of the choices {list(choices)}")


def _input(keys: Keys, task: Task, choices: tuple[str, ...]) -> Mapping[str, Value]:
    fields = keys.values.get("input")
    if not isinstance(fields, Mapping):
        raise keys.error("input", f"must be an object of fields, found {fields!r}")
    for name, value in fields.items():
        if not is_value(value):
            raise keys.error(f"input.{name}", f"must be {VALUES}, found {reprlib.repr(value)}")
    for name in task.fields:
        if name not in fields and not (name == "choices" and choices):
            given = ", ".join(map(repr, fields)) or "no fields"
            message = f"is missing, but the input template of task {task.name!r} uses it; found {given}"
            raise keys.error(f"input.{name}", message)
    return cast("Mapping[str, Value]", fields)


def _metadata(keys: Keys) -> Mapping[str, Json]:
    metadata = keys.values.get("metadata")
    if metadata is None:
        return {}
    try:
        # Parquet has types that JSON lacks: dates, bytes, NaN.
        json.dumps(metadata, allow_nan=False)
        if isinstance(metadata, Mapping):
            return cast("Mapping[str, Json]", metadata)
    except (TypeError, ValueError, RecursionError):
        pass
    raise keys.error("metadata", f"must be a JSON object, found {reprlib.repr(metadata)}")


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, text in _lines(path):
        if text.strip():
            values = _parse_json(text, path, line)
            if not isinstance(values, dict):
                raise DataError(f"must be an object, found {text.strip()[:60]!r}", path=path, line=line)
            yield line, values


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
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"an object has a duplicate key, among {', '.join(repr(key) for key, _ in pairs)}")
    return values


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not a JSON number")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a UTF-8 file, split at newlines only, as in JSONL."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            try:
                yield line, raw.decode("utf-8-sig" if line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                message = f"not UTF-8: byte {error.start} of the line ({error.reason})"
                raise DataError(message, path=path, line=line) from error


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
            yield line, _from_columns(dict(zip(header, cells, strict=True)), path, line)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", path=path, line=reader.line_num) from error


def _from_columns(cells: dict[str, str], path: Path, line: int) -> dict[str, object]:
    values: dict[str, object] = {name: cells[name] for name in ("id", "target") if name in cells}
    values["input"] = {name: cell for name, cell in cells.items() if name not in _KEYS}
    for name in ("choices", "references", "metadata"):
        if cells.get(name):
            values[name] = _parse_json(cells[name], path, line, name)
    return values


def _read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    from udr.data.parquet import read_records

    for line, record in enumerate(read_records(path), start=1):
        values = {name: value for name, value in record.items() if name in _KEYS and value is not None}
        if "input" not in record:
            values["input"] = {name: value for name, value in record.items() if name not in _KEYS}
        yield line, values


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
