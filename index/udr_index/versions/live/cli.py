"""The commands ``udr index put``, ``get``, ``delete`` and ``compact``, and the rows that ``udr index list`` lists."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import AllowHub, print_json, print_text
from udr.errors import ConfigError, DataError, UnknownTaskError
from udr.types import Json as JsonValue
from udr.types import Row
from udr_index.plural import counted
from udr_index.versions.live.transfer_cli import add_transfer_commands
from udr_index.versions.live.usage_cli import add_usage_commands

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr.data import Task as TaskType
    from udr.store.live import Outcome

Index = Annotated[str, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)]
Task = Annotated[str, typer.Argument(help="The task.", metavar="TASK", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RowFilter = Annotated[
    str | None, typer.Option(help='Only rows that pass, such as: site = "imdb" and stars >= 3.', metavar="FILTER")
]
IfMatch = Annotated[
    str | None, typer.Option("--if-match", help="Only if the row has this version now; * for any.", metavar="VERSION")
]
Durability = Annotated[
    str, typer.Option(help="When a write is done: once it is on the disk, or once the system has it: disk or system.")
]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the group ``udr index``."""
    app.command()(put)
    app.command()(get)
    app.command()(delete)
    app.command("compact")(compact_)
    add_transfer_commands(app)
    add_usage_commands(app)


def put(
    index: Index,
    task: Task,
    rows: Annotated[Path, typer.Argument(help="A .jsonl, .csv or .parquet file of rows; - for JSONL from stdin.")],
    if_match: IfMatch = None,
    durability: Durability = "disk",
    allow_hub: AllowHub = False,
    as_json: Json = False,
) -> None:
    """Put rows into a task's pool, all or none; one with the id of another replaces it. Searches find them at once."""
    from udr.models import SentenceEncoder
    from udr.retrieval import Retriever
    from udr.store import encoder_name, exported_encoder, open_version
    from udr.store.live import DURABILITIES

    version = open_version(Path(index))
    wanted = next((item for item in DURABILITIES if item == durability), None)
    if wanted is None:
        raise ConfigError(f"--durability must be {' or '.join(DURABILITIES)}; found {durability!r}")
    known = _known(task, {name: part.task for name, part in version.manifest.partitions.items()})
    given = _read(known, rows)
    encoder = exported_encoder(version, "cpu") or SentenceEncoder.load(encoder_name(version, allow_hub=allow_hub))
    with Retriever.of_version(version, encoder=encoder, verify=False, durability=wanted) as retriever:
        outcome = retriever.put(task, given, if_match=if_match)
    _print(outcome, as_json)


def get(index: Index, task: Task, id: Annotated[str, typer.Argument(help="The row's id.", metavar="ID")]) -> None:
    """Print a row as JSON, as it is now."""
    from udr_index.versions.live.rows import open_rows

    with open_rows(Path(index)) as pool:
        _known(task, pool.base.tasks)
        row = pool.view().row(task, id)
    if row is None:
        raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
    print_json(row.to_json())


def delete(
    index: Index,
    task: Task,
    ids: Annotated[list[str] | None, typer.Argument(help="The ids of the rows.", metavar="[ID]...")] = None,
    filter: RowFilter = None,
    if_match: IfMatch = None,
    as_json: Json = False,
) -> None:
    """Delete rows of a task's pool by id, or those that pass a filter. No search finds them any more."""
    from udr.retrieval import deletion
    from udr.store.live import Change
    from udr_index.versions.live.rows import open_rows

    with open_rows(Path(index)) as pool:
        _known(task, pool.base.tasks)
        change = deletion(Change(task, if_match=if_match), ids or None, filter)
        outcome = pool.write(change)
    _print(outcome, as_json)


def list_rows(index: Path, task: str, after: str | None, limit: int, filter: str | None, as_json: bool) -> None:
    """Print a page of a task's rows, one a line as JSON; ``--json`` prints an object with the next page's place."""
    from udr.data import Filter
    from udr.retrieval import page
    from udr_index.versions.live.rows import open_rows

    with open_rows(index) as pool:
        _known(task, pool.base.tasks)
        found = page(pool.view(), task, after, limit, None if filter is None else Filter.of(filter))
    if as_json:
        print_json({"rows": [row.to_json() for row in found.rows], "next": found.next})
        return
    for row in found.rows:
        print_text(json.dumps(row.to_json(), ensure_ascii=False))
    if found.next is not None:
        typer.echo(f"udr: more rows follow; list them with: --after {found.next}", err=True)


def compact_(
    index: Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)],
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Empty the log: versions that are built of other rows do not get what was written."
        ),
    ] = False,
    allow_hub: AllowHub = False,
    as_json: Json = False,
) -> None:
    """Make a new version of the current one's rows and what was written on top of it, and publish it.

    It is the version that a build of these rows makes. Searches find the same before, meanwhile and after.
    """
    from udr_index.build import ProgressPrinter
    from udr_index.versions.live.compaction import compact

    done = compact(index, forget=forget, allow_hub=allow_hub, on_progress=ProgressPrinter())
    if as_json:
        keys: dict[str, JsonValue] = {"version": done.version, "previous": done.previous, "position": done.position}
        sizes: dict[str, JsonValue] = {**done.sizes}
        keys |= {"encoded": done.encoded, "tasks": sizes, "refitted": [*done.refitted], "forgotten": done.forgotten}
        print_json(keys)
        return
    if done.version == done.previous:
        print_text(f"{index}: version {done.version} has all that was written")
    else:
        number = counted(sum(done.sizes.values()), "demonstration")
        print_text(
            f"{index}: version {done.version} is now current, with {number} and all {done.position} writes; the "
            f"previous one is {done.previous}"
        )
    if done.refitted:
        print_text(f"label heads fitted again: {', '.join(done.refitted)}")


def _known(task: str, tasks: "Mapping[str, TaskType]") -> "TaskType":
    from udr.retrieval import unknown

    if task not in tasks:
        raise unknown("task", task, tasks)
    return tasks[task]


def _read(task: "TaskType", path: Path) -> list[Row]:
    from udr.data import jsonl_records, parse_row, read_rows

    if str(path) != "-":
        return list(read_rows(task, path))
    rows: list[Row] = []
    for line, values in jsonl_records(Path("/dev/stdin")):
        if isinstance(values, DataError):
            raise values
        rows.append(parse_row(task, values, path, line))
    return rows


def _print(outcome: "Outcome", as_json: bool) -> None:
    done = {"created": outcome.created, "replaced": outcome.replaced, "deleted": outcome.deleted}
    if as_json:
        print_json({"position": outcome.position, **{name: [*ids] for name, ids in done.items()}})
        return
    counts = ", ".join(f"{len(ids)} {name}" for name, ids in done.items() if ids) or "nothing to do"
    print_text(f"{counts}; write {outcome.position}")
