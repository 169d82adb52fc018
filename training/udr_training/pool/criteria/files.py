"""The files of preferences (JSONL) and of criteria (TOML)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from udr.data import Keys, Task
from udr.errors import DataError
from udr.files import check_format, read_text, read_toml, write_atomically
from udr.types import Json, Row
from udr_training.pool.criteria.known import Criterion
from udr_training.pool.criteria.mining import Judged, Mined

FORMAT = 1
FEWEST = 10
"""Preferences that are needed; about 30 are better."""

Preference = tuple[Row, Row]
"""The better and the worse row."""


def read_pairs(path: Path, rows: Sequence[Row]) -> list[Preference]:
    """Return the preferences of a JSONL file, whose lines are ``{"better": ID, "worse": ID}``.

    Raises:
        DataError: a line is invalid or names no row, or there are too few.
    """
    by_id, pairs = {row.id: row for row in rows}, list[Preference]()
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DataError(f"is no JSON: {error}", path=path, line=line) from error
        if not isinstance(values, Mapping):
            raise DataError('must be {"better": ID, "worse": ID}', path=path, line=line)
        keys = Keys(values, path, line)
        keys.refuse_unknown(("better", "worse"))
        ids = keys.text("better"), keys.text("worse")
        for key, name in zip(("better", "worse"), ids, strict=True):
            if name not in by_id:
                raise keys.error(key, f"{name!r} is no row of the pool")
        if ids[0] == ids[1]:
            raise keys.error("worse", f"{ids[1]!r} is also the better row")
        pairs.append((by_id[ids[0]], by_id[ids[1]]))
    if len(pairs) < FEWEST:
        raise DataError(f"has {len(pairs)} pairs; criteria need at least {FEWEST}, better 30", path=path)
    return pairs


def write_criteria(path: Path, task: Task, lm: str, mined: Mined) -> None:
    """Write the criteria that were kept, and those that were dropped."""
    content: dict[str, Any] = {
        "udr_criteria": FORMAT,
        "task": task.name,
        "lm": lm,
        "pairs": len(mined.votes),
        "agreement": round(mined.agreement, 4),
        "criteria": [_record(judged) for judged in mined.kept],
        "dropped": [_record(judged) for judged in mined.dropped],
    }
    write_atomically(path, tomli_w.dumps(content).encode())


def _record(judged: Judged) -> dict[str, Json]:
    return {
        "name": judged.criterion.name,
        "text": judged.criterion.text,
        "agreement": round(judged.agreement, 4),
        "confidence": round(judged.confidence, 4),
        "decided": judged.decided,
    }


def read_criteria(path: Path, task: Task) -> list[Criterion]:
    """Return the criteria of a file; a person may have edited their names and texts.

    Raises:
        DataError: the file is none of criteria, or of another task.
        ArtifactError: another version of udr wrote it in another format.
    """
    values = read_toml(path)
    again = f"udr pool criteria --tasks {task.name}"
    if "udr_criteria" not in values:
        raise DataError(f"is no file of criteria; make one with: {again}", path=path)
    check_format(values["udr_criteria"], FORMAT, str(path), again)
    if values.get("task") != task.name:
        raise DataError(f"has criteria of the task {values.get('task')!r}, not of {task.name!r}", path=path)
    tables = values.get("criteria")
    if not isinstance(tables, list) or not tables:
        raise DataError("has no [[criteria]]; each needs a name and a text", path=path)
    return [Criterion(*(Keys(table, path).text(key) for key in ("name", "text"))) for table in tables]
