"""The commands ``udr index publish``, ``list``, ``diff`` and ``prune``: arguments to one call, and what it returns."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import print_json, print_text
from udr.types import Json
from udr_index.plural import counted

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr_index.versions.catalog import Pruned, VersionInfo
    from udr_index.versions.diff import TaskDiff, VersionDiff
    from udr_index.versions.row_diff import Ids

_SHOWN = 5
"""Ids that a line of text names."""

_Index = Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NAMES = "a name, the beginning of one, or CURRENT"


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the group ``udr index``."""
    app.command()(publish)
    app.command("list")(list_)
    app.command()(diff)
    app.command()(prune)


def publish(
    index: _Index,
    version: Annotated[str, typer.Argument(help=f"The version: {_NAMES}.", metavar="VERSION", show_default=False)],
    as_json: _Json = False,
) -> None:
    """Have an index read at another version, a newer or an older one. A damaged one is refused with exit status 3."""
    from udr_index.versions.catalog import publish as run

    published = run(index, version)
    if as_json:
        print_json({"version": published.version, "previous": published.previous})
    elif published.version == published.previous:
        print_text(f"{index}: version {published.version} is current already")
    else:
        print_text(f"{index}: version {published.version} is current now, before it was {published.previous or 'none'}")


def list_(index: _Index, as_json: _Json = False) -> None:
    """Show the versions of an index, the newest first: * for the current one, size, and what each holds."""
    from udr_index.versions.catalog import list_versions

    infos = list_versions(index)
    if as_json:
        print_json([_info(info) for info in infos])
        return
    for info in infos:
        print_text(_line(info))
    if not any(info.is_current for info in infos):
        print_text(f"no version is current; run: udr index publish {index} VERSION")


def diff(
    index: _Index,
    old: Annotated[str, typer.Argument(help=f"One version: {_NAMES}.", metavar="A", show_default=False)],
    new: Annotated[str, typer.Argument(help="The other.", metavar="B", show_default=False)],
    as_json: _Json = False,
) -> None:
    """Show what version B of an index has that A has not: settings, definitions of tasks, and rows by their ids.

    JSON names all rows, text the first of them.
    """
    from udr_index.versions.diff import diff_versions

    found = diff_versions(index, old, new, None if as_json else _SHOWN)
    if as_json:
        print_json(_diff(found))
    else:
        print_text("\n".join(_diff_lines(found)))


def prune(
    index: _Index,
    keep: Annotated[
        int, typer.Option("--keep", help="How many versions to keep: the current one, then the newest.", metavar="N")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing, show what would be.")] = False,
    as_json: _Json = False,
) -> None:
    """Delete the oldest versions of an index, and what killed builds left; such a build then begins anew."""
    from udr_index.versions.catalog import prune as run

    pruned = run(index, keep, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "removed": [info.name for info in pruned.versions],
                "leftovers": list(pruned.leftovers),
                "kept": [info.name for info in pruned.kept],
                "freed_bytes": pruned.freed_bytes,
            }
        )
    else:
        print_text("\n".join(_pruned_lines(index, pruned, dry_run)))


def _info(info: "VersionInfo") -> dict[str, Json]:
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


def _line(info: "VersionInfo") -> str:
    changed = datetime.fromtimestamp(info.changed_seconds).strftime("%Y-%m-%d %H:%M")
    place = f"{'*' if info.is_current else ' '} {info.name}  {changed}  {_megabytes(info.size_bytes):>12}"
    if info.problem is not None:
        return f"{place}  unreadable: {info.problem}"
    return f"{place}  {info.num_rows} demonstrations of {len(info.sizes)} tasks, {info.encoder}"


def _diff(found: "VersionDiff") -> dict[str, Json]:
    return {
        "old": found.old,
        "new": found.new,
        "differences": [{"path": one.path, "old": one.old, "new": one.new} for one in found.differences],
        "tasks": {
            name: {
                "definition": task.definition,
                "added": list(task.rows.added.first),
                "changed": list(task.rows.changed.first),
                "removed": list(task.rows.removed.first),
            }
            for name, task in found.tasks.items()
        },
    }


def _diff_lines(found: "VersionDiff") -> Iterator[str]:
    yield f"{found.old} -> {found.new}"
    for one in found.differences:
        yield f"{one.path}: {_value(one.old)} -> {_value(one.new)}"
    for name, task in found.tasks.items():
        yield from _task_lines(name, task)
    if found.is_empty:
        yield "nothing differs"


def _task_lines(name: str, task: "TaskDiff") -> Iterator[str]:
    if task.definition == "same" and task.rows.is_empty:
        return
    told = {"same": "", "changed": ", defined otherwise", "added": ", a new task", "removed": ", gone"}
    rows = task.rows
    yield (
        f"{name}: {rows.added.count} added, {rows.changed.count} changed, {rows.removed.count} removed"
        f"{told[task.definition]}"
    )
    for sign, ids in (("+", rows.added), ("~", rows.changed), ("-", rows.removed)):
        if ids.count:
            yield f"  {sign} {_ids(ids)}"


def _ids(ids: "Ids") -> str:
    more = ids.count - len(ids.first)
    return ", ".join(ids.first) + (f" and {more} more" if more else "")


def _value(value: Json) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _pruned_lines(index: Path, pruned: "Pruned", dry_run: bool) -> Iterator[str]:
    removed, freed = ("would remove", "would be freed") if dry_run else ("removed", "freed")
    for info in pruned.versions:
        yield f"{removed} version {info.name}, {_megabytes(info.size_bytes)}"
    for name in pruned.leftovers:
        yield f"{removed} {name}, left by a command that was killed"
    yield (
        f"{index}: {counted(len(pruned.versions), 'version')} and {counted(len(pruned.leftovers), 'leftover')}, "
        f"{_megabytes(pruned.freed_bytes)} {freed}; {counted(len(pruned.kept), 'version')} kept"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
