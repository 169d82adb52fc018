"""What differs between two versions of an index: how they were made, how tasks are defined, which rows they have."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from udr.store import DEMONSTRATIONS, Manifest, read_manifest, version_path
from udr.types import Json
from udr_index.versions.catalog import find_version
from udr_index.versions.row_diff import RowsDiff, diff_rows

Definition = Literal["same", "changed", "added", "removed"]
"""What became of a task from one version to another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Something in the manifests of two versions that is not the same.

    Attributes:
        path: the keys that lead to it, with dots: ``encoder.fingerprint``, ``tasks.notes.task.instruction``.
        old: what it is in the old version; None where that lacks it.
        new: what it is in the new one; likewise.
    """

    path: str
    old: Json
    new: Json


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDiff:
    """What became of a task.

    Attributes:
        definition: of its ``task.toml``; ``added`` or ``removed`` where only one version has the task.
        rows: of its demonstrations.
    """

    definition: Definition
    rows: RowsDiff


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionDiff:
    """What differs between two versions.

    Attributes:
        old: the name of one.
        new: the name of the other.
        differences: in encoder, tokenizer, wording, vectors, families, and the tasks that both have.
        tasks: every task of either, by name.
    """

    old: str
    new: str
    differences: tuple[Difference, ...]
    tasks: Mapping[str, TaskDiff]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        tasks = self.tasks.values()
        return not self.differences and all(task.definition == "same" and task.rows.is_empty for task in tasks)


def diff_versions(root: Path, old: str, new: str, limit: int | None = None) -> VersionDiff:
    """Compare two versions of the index at ``root``. Rows are the same where task and id are; vectors are not read.

    Args:
        root: the index.
        old: one version; see ``find_version``.
        new: the other.
        limit: the most ids to name of each task's added, changed and removed rows; None names all.

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
        differences=tuple(_differences(before, after)),
        tasks={name: TaskDiff(definition=_definition(before, after, name), rows=rows[name]) for name in tasks},
    )


def _differences(old: Manifest, new: Manifest) -> Iterator[Difference]:
    shared = old.partitions.keys() & new.partitions.keys()
    before, after = (dict(_leaves(_settings(manifest, shared))) for manifest in (old, new))
    for path in dict.fromkeys([*before, *after]):
        if before.get(path) != after.get(path):
            yield Difference(path=path, old=before.get(path), new=after.get(path))


def _settings(manifest: Manifest, tasks: Collection[str]) -> dict[str, Json]:
    """Return all that a manifest says of how its version was made; what follows from the rows is left out."""
    # As it is written: whatever manifests come to say, none of it is overlooked.
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
