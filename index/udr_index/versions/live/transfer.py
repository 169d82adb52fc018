"""Export and import: the rows of an index, with what was written on top of it, as one file of JSONL or Parquet.

What is exported is imported as it was, to the type of each number and the order of the keys. In Parquet, input and
metadata are JSON as text, since a column has one type, but fields of different rows may not.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from udr.data import from_columns, jsonl_records, parse_row, row_text, write_parquet
from udr.errors import ConfigError, DataError, StorageError, UnknownTaskError, brief
from udr.files import LFS, lfs_pointer, refuse_existing, write_atomically
from udr.models import Encoder
from udr.retrieval import Retriever, unknown
from udr.store import open_version
from udr.store.live import Durability, View
from udr.types import Row
from udr_index.versions.live.rows import open_rows

SUFFIXES = (".jsonl", ".parquet")

_Vectors = NDArray[np.floating]

_SPAN = 1000
"""Rows written at once."""

_ROW = {"id": "text", "input": "text", "target": "text", "choices": "texts", "references": "texts", "metadata": "text"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        sizes: how many rows of each task.
        version: the index version.
        position: that of the last write that the file knows of.
        encoder: the fingerprint of the encoder that made the vectors.
    """

    sizes: Mapping[str, int]
    version: str
    position: int
    encoder: str


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows an import added, replaced and left alone.

    Attributes:
        created: how many were new.
        replaced: how many replaced others.
        unchanged: how many were there already, just as they are.
        vectors: whether the file has vectors, which an import does not read.
    """

    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    vectors: bool = False


@dataclass(slots=True)
class _Given:
    """The rows of a file, checked, by task; and what it has beside them."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    vectors: bool = False


def export_rows(root: Path, out: Path, task: str | None = None, *, vectors: bool = False) -> Exported:
    """Write the rows that count now to a file; its suffix says how: ``.jsonl`` or ``.parquet``.

    Args:
        root: the index directory.
        out: the file, which must not exist.
        task: only this task's rows, which then do not name it, as in a split of a task's folder; None for all.
        vectors: add what the encoder made of each row, in the type in which the index stores it.

    Raises:
        ConfigError: the file exists or has another suffix; or vectors are of another encoder.
        ArtifactError: there is no index, or it cannot be read.
        UnknownTaskError: it has no such task.
        MissingExtraError: pyarrow, which writes Parquet, is not installed.
        OSError: the file cannot be written; what was written of it is removed.
    """
    _check_suffix(out)
    refuse_existing(out)
    version = open_version(root)
    with open_rows(root, version, with_vectors=vectors) as pool:
        view, manifest = pool.view(), version.manifest
        if task is not None and task not in manifest.partitions:
            raise unknown("task", task, manifest.partitions)
        tasks = list(manifest.partitions) if task is None else [task]
        kind = manifest.dtype if vectors else None
        batches = (batch for name in tasks for batch in _batches(view, name, vectors))

        def write(stream: BinaryIO) -> None:
            if out.suffix == ".jsonl":
                for name, rows, own in batches:
                    stream.writelines(_line(None if task else name, row, own, at) for at, row in enumerate(rows))
                return
            columns = {**({} if task else {"task": "text"}), **_ROW, **({"vector": kind} if kind else {})}
            notes = {"udr.version": manifest.version, "udr.encoder": manifest.encoder.fingerprint}
            write_parquet(stream, columns, (_columns(columns, *batch) for batch in batches), notes)

        write_atomically(out, write)
        sizes = {name: view.sizes[name] for name in tasks}
        return Exported(sizes, manifest.version, view.position, manifest.encoder.fingerprint)


def import_rows(
    root: Path,
    path: Path,
    task: str | None = None,
    *,
    replace: bool = False,
    encoder: Encoder | None = None,
    allow_hub: bool = False,
    durability: Durability = "disk",
) -> Imported:
    """Put the rows of a file on top of an index, once all of them are checked; those that are there are left alone.

    They are encoded as in a build. An import that was interrupted goes on when it is called again.

    Args:
        root: the index directory.
        path: a ``.jsonl`` or ``.parquet`` file, as ``export_rows`` writes it.
        task: the task of rows that do not name theirs.
        replace: whether rows replace others that have their ids.
        encoder: a loaded encoder, the one that made the index; None loads it.
        allow_hub: load the encoder from the Hugging Face hub if the index names it there.
        durability: when a write is done.

    Raises:
        DataError: the file is damaged, or a row does not fit its task.
        ConfigError: the file is of another type, or rows would replace others.
        UnknownTaskError: the index has no such task.
        NotWriterError: another process writes to the index.
        StorageError: the disk is full; rows that were written before are kept.
    """
    _check_suffix(path)
    version = open_version(root)
    with open_rows(root, version) as pool:
        view = pool.view()
        given = _read(path, task, view)
        new, other, same = _sorted(given, view)
    if other and not replace:
        name, id = next((name, id) for name, ids in other.items() for id in ids)
        number = sum(map(len, other.values()))
        raise ConfigError(
            f"{path}: {number} of its rows have ids of other rows, such as {brief(id)} of {name!r}, and nothing was "
            "imported; to replace those, add --replace"
        )
    done = 0
    if new or other:
        with Retriever.of_version(
            version, encoder=encoder, verify=False, allow_hub=allow_hub, durability=durability
        ) as retriever:
            for name, rows in given.rows.items():
                wanted = [row for id, row in rows.items() if id in new.get(name, ()) or id in other.get(name, ())]
                for start in range(0, len(wanted), _SPAN):
                    try:
                        retriever.put(name, wanted[start : start + _SPAN])
                    except StorageError as error:
                        raise type(error)(f"{error}; {done} rows were imported before") from error
                    done += len(wanted[start : start + _SPAN])
    return Imported(sum(map(len, new.values())), sum(map(len, other.values())), same, given.vectors)


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: must be a {' or '.join(SUFFIXES)} file")


def _batches(view: View, task: str, vectors: bool) -> Iterator[tuple[str, Sequence[Row], _Vectors | None]]:
    for rows in view.pages(task):
        own = None
        if vectors:
            # A row that replaced another has two positions, of which the later one counts.
            at = {id: position for position, id in sorted(view.table.positions(task, [r.id for r in rows]).items())}
            own = view.searcher(task).vectors[[at[row.id] for row in rows]]
        yield task, rows, own


def _line(task: str | None, row: Row, vectors: _Vectors | None, at: int) -> bytes:
    keys = {**({} if task is None else {"task": task}), **row.to_json()}
    if vectors is not None:
        keys["vector"] = vectors[at].astype(float).tolist()
    return json.dumps(keys, ensure_ascii=False).encode() + b"\n"


def _columns(
    columns: Mapping[str, str], task: str, rows: Sequence[Row], vectors: _Vectors | None
) -> Mapping[str, Sequence[object]]:
    values: dict[str, Sequence[object]] = {
        "task": [task] * len(rows),
        "id": [row.id for row in rows],
        "input": [json.dumps(dict(row.input), ensure_ascii=False) for row in rows],
        "target": [row.target for row in rows],
        "choices": [row.choices for row in rows],
        "references": [row.references for row in rows],
        "metadata": [json.dumps(row.metadata, ensure_ascii=False) for row in rows],
        "vector": [] if vectors is None else list(vectors),
    }
    return {name: values[name] for name in columns}


def _read(path: Path, task: str | None, view: View) -> _Given:
    """Return the rows of a file, all of them checked."""
    given = _Given()
    for line, record in _records(path):
        if isinstance(record, DataError):
            raise record
        values = dict(record)
        name = values.pop("task", task)
        given.vectors |= values.pop("vector", None) is not None
        if name is None:
            raise DataError("names no task; name it after the file", path=path, line=line, field="task")
        if task not in (None, name):
            raise DataError(f"must be {task!r}, found {brief(name)}", path=path, line=line, field="task")
        if not isinstance(name, str) or name not in view.base.tasks:
            raise UnknownTaskError(f"{path}:{line}: {unknown('task', str(name), view.base.tasks)}")
        row = parse_row(view.base.tasks[name], values, path, line)
        own = given.rows.setdefault(name, {})
        if row.id in own:
            raise DataError(f"{brief(row.id)} occurs twice", path=path, line=line, field="id")
        own[row.id] = row
    return given


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, object] | DataError]]:
    if lfs_pointer(path):
        raise DataError(LFS, path=path)
    if path.suffix == ".jsonl":
        yield from jsonl_records(path)
        return
    for line, record, values in from_columns(path):
        if not isinstance(values, DataError):
            values = {**values, **{name: record[name] for name in ("task", "vector") if record.get(name) is not None}}
        yield line, values


def _sorted(given: _Given, view: View) -> tuple[dict[str, set[str]], dict[str, set[str]], int]:
    """Return the ids that are new, those of rows that differ, by task, and how many rows are the same."""
    new, other, same = dict[str, set[str]](), dict[str, set[str]](), 0
    for task, rows in given.rows.items():
        for id, row in rows.items():
            there = view.row(task, id)
            if there is not None and row_text(there) == row_text(row):
                same += 1
            else:
                (new if there is None else other).setdefault(task, set()).add(id)
    return new, other, same
