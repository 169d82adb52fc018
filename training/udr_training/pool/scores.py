"""Scores of a pool's rows, and their file: lines of JSON of which the first explains and verifies the others.

A Parquet file is a table of the same lines, and has the first one in its metadata.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from udr.data import Pool, Task, parquet_notes, parquet_records, pool_digest, write_parquet
from udr.errors import DataError, VerificationError
from udr.files import check_format, read_text, write_atomically
from udr.types import Json, Row

FORMAT = 1
_PARQUET, _NOTE = ".parquet", "_note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One kind of score of every row of a pool; higher is better.

    Attributes:
        name: as in ``--by``.
        meaning: what its numbers say, in words.
        values: that of each row, in the order of the pool's file.
        flagged_below: a row with a lower value is flagged: it is better left out, whatever share of the pool is kept.
        notes: what it says about some rows, by position.
        settings: how it was computed.
    """

    name: str
    meaning: str
    values: tuple[float, ...]
    flagged_below: float
    notes: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)

    @property
    def flagged(self) -> tuple[int, ...]:
        """The positions of the flagged rows."""
        return tuple(position for position, value in enumerate(self.values) if value < self.flagged_below)

    def header(self) -> dict[str, Json]:
        """Return what the file's first line says about it."""
        return {
            "meaning": self.meaning,
            "better": "higher",
            "flagged_below": self.flagged_below,
            "flagged": len(self.flagged),
            "settings": dict(self.settings),
        }


def write_scores(path: Path, task: Task, rows: Sequence[Row], scores: Sequence[Score]) -> None:
    """Write scores of a pool's rows: a line that describes them, then one line per row with its id.

    JSONL, or Parquet if the file's name ends with ``.parquet``; that needs the extra ``parquet``.
    """
    records = list[dict[str, Json]]()
    for position, row in enumerate(rows):
        notes: dict[str, Json] = {score.name: score.notes[position] for score in scores if position in score.notes}
        records.append(_record(row.id, {score.name: float(score.values[position]) for score in scores}, notes))
    body = "".join(map(_line, records))
    header: dict[str, Json] = {
        "udr_pool_scores": FORMAT,
        "task": task.name,
        "rows": len(rows),
        "pool": pool_digest(Pool(task, tuple(rows))),
        "scores": {score.name: score.header() for score in scores},
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
    }
    if path.suffix == _PARQUET:
        write_atomically(path, _parquet(header, rows, scores))
    else:
        write_atomically(path, (_line(header) + body).encode())


def _record(id: str, values: Mapping[str, Json], notes: Mapping[str, Json]) -> dict[str, Json]:
    return {"id": id, **values, **({"notes": dict(notes)} if notes else {})}


def _parquet(header: Mapping[str, Json], rows: Sequence[Row], scores: Sequence[Score]) -> bytes:
    types, columns = {"id": "text"}, dict[str, Sequence[object]](id=[row.id for row in rows])
    for score in scores:
        types |= {score.name: "number", f"{score.name}{_NOTE}": "text"}
        columns |= {score.name: score.values, f"{score.name}{_NOTE}": [*map(score.notes.get, range(len(rows)))]}
    write_parquet(stream := BytesIO(), types, [columns], {"udr_pool_scores": _line(header)})
    return stream.getvalue()


def _parquet_parts(path: Path) -> tuple[str, str]:
    """Return the first line and the others of what a Parquet file is a table of."""
    head, lines = parquet_notes(path).get("udr_pool_scores", ""), list[str]()
    records: Iterable[tuple[int, Any]] = parquet_records(path) if head else ()
    for _, record in records:
        names = [name for name in record if f"{name}{_NOTE}" in record]
        notes = {name: note for name in names if (note := record[f"{name}{_NOTE}"]) is not None}
        lines.append(_line(_record(record["id"], {name: record[name] for name in names}, notes)))
    return head, "".join(lines)


def _line(record: Mapping[str, Json]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _jsonl_parts(path: Path) -> tuple[str, str]:
    head, _, body = read_text(path).partition("\n")
    return head, body


def read_scores(path: Path, task: Task, rows: Sequence[Row]) -> tuple[Score, ...]:
    """Return the scores of a pool's rows from a file of ``write_scores``.

    Raises:
        DataError: the file is none of scores, or has those of another task or of other rows.
        VerificationError: its rows are not those that were written.
        ArtifactError: another version of udr wrote it in another format.
    """
    again = f"udr pool score --tasks {task.name}"
    head, body = _parquet_parts(path) if path.suffix == _PARQUET else _jsonl_parts(path)
    try:
        header = json.loads(head)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or "udr_pool_scores" not in header:
        raise DataError(f"is no file of scores; make one with: {again}", path=path, line=1)
    check_format(header["udr_pool_scores"], FORMAT, str(path), again)
    if header.get("sha256") != hashlib.sha256(body.encode()).hexdigest():
        raise VerificationError(f"{path}: its lines are not those that were written; make it again with: {again}")
    if header["task"] != task.name:
        raise DataError(f"has scores of the task {header['task']!r}, not of {task.name!r}; run: {again}", path=path)
    if header["pool"] != pool_digest(Pool(task, tuple(rows))):
        raise DataError(
            f"has scores of other rows than those of the task {task.name!r}: the pool or task.toml has changed since "
            f"({header['rows']} rows then, {len(rows)} now); run: {again}",
            path=path,
        )
    # The digest does not depend on the order of the rows.
    records = {record["id"]: record for record in map(json.loads, body.split("\n")[:-1])}
    ordered = [records[row.id] for row in rows]
    return tuple(
        Score(
            name=name,
            meaning=said["meaning"],
            values=tuple(record[name] for record in ordered),
            flagged_below=said["flagged_below"],
            notes={n: record["notes"][name] for n, record in enumerate(ordered) if name in record.get("notes", {})},
            settings=said["settings"],
        )
        for name, said in header["scores"].items()
    )
