"""Rows of a task, read from JSONL, CSV or Parquet and validated one by one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from udr.data.keys import Keys
from udr.data.records import KEYS, records
from udr.data.task import Kind, Task
from udr.errors import DataError, brief, listed
from udr.types import VALUES, Json, Row, Value, is_value

MAX_ID = 512
"""The maximum length of a row's id, in characters."""

_DEEPEST = 64


def read_rows(task: Task, path: Path) -> Iterator[Row]:
    """Yield the rows of a file in its order, each validated against the task.

    Args:
        task: the task they belong to.
        path: a ``.jsonl``, ``.csv`` or ``.parquet`` file. In CSV, and in Parquet without an ``input`` of
            objects, each column other than ``id``, ``target``, ``choices``, ``references`` and ``metadata`` is an
            input field; in CSV the last three hold JSON.

    Raises:
        DataError: a row is invalid or its id was used before; the message names the file, line and field.
    """
    for _, row in rows_and_errors(task, path, distinct=True):
        if isinstance(row, DataError):
            raise row
        yield row


def numbered_rows(task: Task, path: Path) -> Iterator[tuple[int, Row]]:
    """Yield line number and row as ``read_rows`` does, without checking for duplicate ids, in constant memory."""
    for line, row in rows_and_errors(task, path):
        if isinstance(row, DataError):
            raise row
        yield line, row


def rows_and_errors(task: Task, path: Path, *, distinct: bool = False) -> Iterator[tuple[int, Row | DataError]]:
    """Yield line number and row as ``numbered_rows`` does, and for an invalid row its error.

    If ``distinct``, a row whose id was used before is invalid, too.

    Raises:
        DataError: the file cannot be read any further.
    """
    seen: dict[str, int] = {}
    for line, values in records(path):
        try:
            row = values if isinstance(values, DataError) else parse_row(task, values, path, line)
        except DataError as error:
            row = error
        if distinct and isinstance(row, Row):
            if row.id in seen:
                row = DataError(f"{row.id!r} was already used on line {seen[row.id]}", path=path, line=line, field="id")
            else:
                seen[row.id] = line
        yield line, row


def parse_row(task: Task, values: Mapping[str, object], path: Path | None = None, line: int | None = None) -> Row:
    """Return the row that these keys define.

    Raises:
        DataError: a key or field is missing, unknown or has the wrong type, the id is too long, or the target is not
            an option.
    """
    keys = Keys(values, path, line)
    keys.refuse_unknown(KEYS)
    # An answer to generate may be empty: nothing is wrong, nothing was found, ...
    target = keys.text("target", empty=task.kind is Kind.GENERATION)
    choices, references = (keys.texts(key) if values.get(key) is not None else () for key in ("choices", "references"))
    _check_target(keys, task, target, choices)
    return Row(
        id=check_id(keys.text("id"), path, line),
        input=_input(keys, task, choices),
        target=target,
        choices=choices,
        references=references,
        metadata=_metadata(keys),
    )


def check_id(id: str, path: Path | None = None, line: int | None = None, field: str = "id") -> str:
    """Return an id; ``DataError``, which names this place, if no row may have it."""
    if len(id) > MAX_ID:
        message = f"must have at most {MAX_ID} characters, found {len(id)} in {brief(id)}; shorten it"
        raise DataError(message, path=path, line=line, field=field)
    if "\0" in id:
        message = f"must not have the character NUL, found {brief(id)}; remove that"
        raise DataError(message, path=path, line=line, field=field)
    return id


def _check_target(keys: Keys, task: Task, target: str, choices: tuple[str, ...]) -> None:
    if task.kind is Kind.CLASSIFICATION and target not in task.labels:
        labels = listed((brief(label)[1:-1] for label in task.labels), len(task.labels))
        raise keys.error("target", f"{brief(target)} is not one of the labels {labels}")
    if task.kind is Kind.MULTIPLE_CHOICE:
        fields = keys.values.get("input")
        if not choices and isinstance(fields, Mapping) and "choices" in fields:
            problem = "must be at least two different choices, in a list beside the input; found in it"
            raise keys.error("choices", problem)
        keys.check_distinct("choices", choices)
        if target not in choices:
            raise keys.error("target", f"{brief(target)} is not one of the choices {brief(list(choices))}")


def _input(keys: Keys, task: Task, choices: tuple[str, ...]) -> Mapping[str, Value]:
    fields = keys.values.get("input")
    if not isinstance(fields, Mapping):
        raise keys.error("input", f"must be an object of fields, found {brief(fields)}")
    for name, value in fields.items():
        if not is_value(value):
            raise keys.error(f"input.{name}", f"must be {VALUES}, found {brief(value)}")
        if name not in task.fields and f"{{{name}}}" in task.input.source:
            raise keys.error(
                f"input.{name}", "is not a name that a template can use; rename it, with a letter and no quotes"
            )
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
        if isinstance(metadata, Mapping) and _is_shallow(metadata):
            return cast("Mapping[str, Json]", metadata)
    except (TypeError, ValueError, RecursionError):
        pass
    raise keys.error("metadata", f"must be a JSON object, nested at most {_DEEPEST} deep; found {brief(metadata)}")


def _is_shallow(value: object, depth: int = _DEEPEST) -> bool:
    """Return whether a value can be read again by a reader that is deep in calls already."""
    if not isinstance(value, list | tuple | Mapping):
        return True
    inner = value.values() if isinstance(value, Mapping) else value
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in inner)
