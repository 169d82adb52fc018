"""The commands ``udr index export``, ``import``, ``backup`` and ``restore``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import AllowHub, AsJson, IndexDir, print_json, print_text
from udr.types import Json
from udr_index.plural import counted

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr_index.versions.live.backup import Backup

_Task = Annotated[str | None, typer.Argument(help="The task.", metavar="[TASK]", show_default="all")]
Durability = Annotated[
    str | None,
    typer.Option(
        help="When a write is done: once it is on the disk, or once the system has it: disk or system.",
        show_default="disk",
    ),
]
"""An option of the commands that write; see ``durability_of``."""


def add_transfer_commands(app: typer.Typer) -> None:
    """Add these commands to the group ``udr index``."""
    app.command("export")(export_)
    app.command("import")(import_)
    app.command("backup")(backup_)
    app.command("restore")(restore_)


def export_(
    index: IndexDir,
    out: Annotated[Path, typer.Option("--out", help="The file, which must not exist: .jsonl or .parquet.")],
    task: _Task = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Add each row's vector.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the rows of an index, with what was written on top of its version, to a file.

    Without a task, each row names its own.
    """
    from udr_index.versions.live.transfer import export_rows

    done = export_rows(index, out, task, vectors=vectors)
    if as_json:
        sizes: dict[str, Json] = {**done.sizes}
        keys: dict[str, Json] = {"version": done.version, "position": done.position, "encoder": done.encoder}
        print_json({**keys, "tasks": sizes})
        return
    tasks, rows = counted(len(done.sizes), "task"), counted(sum(done.sizes.values()), "row")
    print_text(f"{out}: {rows} of {tasks}, of version {done.version} with {done.position} writes")


def import_(
    index: IndexDir,
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file, as udr index export writes it.")],
    task: Annotated[str | None, typer.Argument(help="The task, if the rows do not name it.", metavar="[TASK]")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace other rows that have their ids.")] = False,
    durability: Durability = None,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Put the rows of a file into the pools of an index, once all of them are checked.

    Rows that are there already, just as they are, are left alone, so an import that was interrupted can be run again.
    """
    from udr_index.versions.live.target import durability_of
    from udr_index.versions.live.transfer import import_rows

    done = import_rows(index, file, task, replace=replace, allow_hub=allow_hub, durability=durability_of(durability))
    if done.vectors:
        typer.echo("udr: the vectors in the file are not read, since the index's encoder makes them again", err=True)
    if as_json:
        print_json({"created": done.created, "replaced": done.replaced, "unchanged": done.unchanged})
    else:
        print_text(f"{done.created} created, {done.replaced} replaced, {done.unchanged} unchanged")


def backup_(
    index: IndexDir,
    file: Annotated[Path, typer.Argument(help="The file, which must not exist.", metavar="FILE")],
    as_json: AsJson = False,
) -> None:
    """Write the current version of an index, and all that was written on top of it, to one file.

    Services go on meanwhile, and take writes.
    """
    from udr_index.versions.live.backup import backup

    _print(file, backup(index, file), as_json)


def restore_(
    file: Annotated[Path, typer.Argument(help="The backup.", metavar="FILE", show_default=False)],
    index: Annotated[Path, typer.Argument(help="The index directory, which must not exist.", metavar="DIR")],
    as_json: AsJson = False,
) -> None:
    """Make an index directory of a backup, once every file has the checksum that it had."""
    from udr_index.versions.live.backup import restore

    _print(index, restore(file, index), as_json)


def _print(path: Path, made: "Backup", as_json: bool) -> None:
    if as_json:
        print_json({"version": made.version, "position": made.position, "files": len(made.files), "bytes": made.size})
        return
    files, megabytes = counted(len(made.files), "file"), f"{made.size / 1e6:,.1f} MB"
    print_text(f"{path}: version {made.version} with {made.position} writes; {files}, {megabytes}")
