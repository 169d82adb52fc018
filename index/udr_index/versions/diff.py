"""Comparing two versions of an index: settings, definitions of tasks, and rows. Vectors are not read."""

import itertools
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from udr.errors import ArtifactError, reason
from udr.models import EXACT, INT8
from udr.store import (
    DEMONSTRATIONS,
    SCHEMA,
    IndexVersion,
    Manifest,
    bounded,
    check_schema,
    open_read_only,
    read_manifest,
    read_only_uri,
    version_path,
)
from udr.types import Json
from udr_index.versions.catalog import find_version

_SECONDS = 600.0
"""The processor time in which two versions are compared."""

Definition = Literal["same", "changed", "added", "removed"]

# All three look rows up in the index of (task, id), which returns ids in order.
_MISSING = """
    SELECT id FROM {here}.demonstrations AS here WHERE task = ? AND NOT EXISTS (
        SELECT 1 FROM {there}.demonstrations AS there WHERE there.task = here.task AND there.id = here.id
    ) ORDER BY id
"""
_QUERIES = {
    "added": _MISSING.format(here="new", there="main"),
    "changed": """
        SELECT old.id FROM main.demonstrations AS old CROSS JOIN new.demonstrations AS new
        WHERE old.task = ? AND new.task = old.task AND new.id = old.id AND new.row <> old.row ORDER BY old.id
    """,
    "removed": _MISSING.format(here="main", there="new"),
}


@dataclass(frozen=True, slots=True)
class Ids:
    """The number of some rows, and the first of their ids, or all of them, in order."""

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsDiff:
    """The rows of a task that only the new version has, that differ in any way, and that only the old version has."""

    added: Ids
    changed: Ids
    removed: Ids

    @property
    def is_empty(self) -> bool:
        """Whether both versions have the same rows."""
        return not (self.added.count or self.changed.count or self.removed.count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A difference between two manifests; the path is its keys, joined by dots, as ``encoder.fingerprint``."""

    path: str
    old: Json
    new: Json


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDiff:
    """How a task's ``task.toml`` and its rows differ; it is added or removed if only one version has the task."""

    definition: Definition
    rows: RowsDiff

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return self.definition == "same" and self.rows.is_empty


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionDiff:
    """The differences between two versions: in how they were made, and in every task of either, by name."""

    old: str
    new: str
    differences: tuple[Difference, ...]
    tasks: Mapping[str, TaskDiff]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and all(task.is_empty for task in self.tasks.values())


def diff_versions(root: Path, old: str, new: str, limit: int | None = None) -> VersionDiff:
    """Compare two versions of the index at ``root`` (see ``find_version``). Rows are matched by task and id.

    At most ``limit`` ids are named of each task's added, changed and removed rows; None names all.

    Raises:
        ArtifactError: there is no such version, or it cannot be read.
    """
    first, second = (version_path(root, find_version(root, name)) for name in (old, new))
    before, after = read_manifest(first), read_manifest(second)
    tasks = sorted(before.partitions.keys() | after.partitions.keys())
    rows = diff_rows(first / DEMONSTRATIONS, second / DEMONSTRATIONS, tasks, limit)
    return VersionDiff(
        old=before.version,
        new=after.version,
        differences=(*_differences(before, after), *_exports(IndexVersion(first, before), IndexVersion(second, after))),
        tasks={name: TaskDiff(definition=_definition(before, after, name), rows=rows[name]) for name in tasks},
    )


def _differences(old: Manifest, new: Manifest) -> Iterator[Difference]:
    shared = old.partitions.keys() & new.partitions.keys()
    before, after = (dict(_leaves(_settings(manifest, shared))) for manifest in (old, new))
    for path in before | after:
        if before.get(path) != after.get(path):
            yield Difference(path=path, old=before.get(path), new=after.get(path))


def _exports(old: IndexVersion, new: IndexVersion) -> Iterator[Difference]:
    engines = [INT8 if version.has_int8 else EXACT if version.has_export else None for version in (old, new)]
    if engines[0] != engines[1]:
        yield Difference(path="export", old=engines[0], new=engines[1])


def _settings(manifest: Manifest, tasks: Collection[str]) -> dict[str, Json]:
    """Return the manifest's keys, without what follows from the rows. New keys are compared without a change here."""
    keys = json.loads(manifest.to_bytes())
    for name in ("version", "files", "sha256"):
        del keys[name]
    for part in keys["tasks"].values():
        del part["count"]
    return {**keys, "tasks": {name: part for name, part in keys["tasks"].items() if name in tasks}}


def _leaves(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _definition(old: Manifest, new: Manifest, task: str) -> Definition:
    before, after = old.partitions.get(task), new.partitions.get(task)
    if before is None:
        return "added"
    if after is None:
        return "removed"
    return "same" if before.task == after.task else "changed"


def diff_rows(old: Path, new: Path, tasks: Iterable[str], limit: int | None = None) -> dict[str, RowsDiff]:
    """Compare the rows of tasks in two files with the tables of ``udr.store.SCHEMA``; see ``diff_versions``.

    Raises:
        ArtifactError: a file is missing or has no such tables.
    """
    try:
        with closing(open_read_only(old, SCHEMA, attached=1)) as connection:
            connection.execute("ATTACH ? AS new", (read_only_uri(new),))
            check_schema(connection, SCHEMA, "new")
            with bounded(connection, _SECONDS):
                return {
                    task: RowsDiff(
                        **{kind: _ids(connection.execute(query, (task,)), limit) for kind, query in _QUERIES.items()}
                    )
                    for task in tasks
                }
    except sqlite3.Error as error:
        raise ArtifactError(f"{old} and {new}: cannot be compared ({reason(error)}); run: udr index verify") from error


def _ids(rows: sqlite3.Cursor, limit: int | None) -> Ids:
    first = tuple(str(id) for (id,) in itertools.islice(rows, limit))
    return Ids(len(first) + sum(1 for _ in rows), first)
