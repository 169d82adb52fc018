"""What the commands on versions show: as lines for people, and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from udr.types import Json
from udr_index.plural import counted

# Imported by the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr_index.versions.catalog import VersionInfo
    from udr_index.versions.diff import TaskDiff, VersionDiff
    from udr_index.versions.pruning import Pruned


def version_json(info: "VersionInfo") -> dict[str, Json]:
    """Return a version as ``udr index list --json`` shows it."""
    return {
        "version": info.name,
        "current": info.is_current,
        "changed": datetime.fromtimestamp(info.changed_seconds, UTC).isoformat(timespec="seconds"),
        "bytes": info.size_bytes,
        "encoder": info.encoder,
        "rows": info.num_rows,
        "tasks": dict(info.sizes),
        "problem": info.problem,
    }


def version_line(info: "VersionInfo") -> str:
    """Return a version as a line of ``udr index list``."""
    changed = datetime.fromtimestamp(info.changed_seconds).strftime("%Y-%m-%d %H:%M")
    start = f"{'*' if info.is_current else ' '} {info.name}  {changed}  {_megabytes(info.size_bytes):>12}"
    if info.problem is not None:
        return f"{start}  unreadable: {info.problem}"
    return f"{start}  {counted(info.num_rows, 'demonstration')} of {counted(len(info.sizes), 'task')}, {info.encoder}"


def diff_json(diff: "VersionDiff") -> dict[str, Json]:
    """Return the differences of two versions as ``udr index diff --json`` shows them."""
    return {
        "old": diff.old,
        "new": diff.new,
        "differences": [asdict(item) for item in diff.differences],
        "tasks": {
            name: {
                "definition": task.definition,
                "added": list(task.rows.added.first),
                "changed": list(task.rows.changed.first),
                "removed": list(task.rows.removed.first),
            }
            for name, task in diff.tasks.items()
        },
    }


def diff_lines(diff: "VersionDiff") -> Iterator[str]:
    """Yield the lines of ``udr index diff``."""
    yield f"{diff.old} -> {diff.new}"
    for item in diff.differences:
        yield f"{item.path}: {_value(item.old)} -> {_value(item.new)}"
    for name, task in diff.tasks.items():
        if not task.is_empty:
            yield from _task_lines(name, task)
    if diff.is_empty:
        yield "no differences"


def _value(value: Json) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _task_lines(name: str, task: "TaskDiff") -> Iterator[str]:
    notes = {"same": "", "changed": ", definition changed", "added": ", new task", "removed": ", task removed"}
    added, changed, removed = task.rows.added, task.rows.changed, task.rows.removed
    counts = f"{added.count} added, {changed.count} changed, {removed.count} removed"
    yield f"{name}: {counts}{notes[task.definition]}"
    for sign, ids in (("+", added), ("~", changed), ("-", removed)):
        if ids.count:
            more = ids.count - len(ids.first)
            yield f"  {sign} {', '.join(ids.first)}{f' and {more} more' if more else ''}"


def pruned_lines(index: Path, pruned: "Pruned", dry_run: bool) -> Iterator[str]:
    """Yield the lines of ``udr index prune``."""
    removed, freed = ("would remove", "would be freed") if dry_run else ("removed", "freed")
    for info in pruned.versions:
        yield f"{removed} version {info.name}, {_megabytes(info.size_bytes)}"
    for name in pruned.leftovers:
        yield f"{removed} {name}, left by a killed command"
    yield (
        f"{index}: {counted(len(pruned.versions), 'version')} and {counted(len(pruned.leftovers), 'leftover')}, "
        f"{_megabytes(pruned.freed_bytes)} {freed}; {counted(len(pruned.kept), 'version')} kept"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
