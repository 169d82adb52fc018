"""The commands ``udr index put``, ``get``, ``delete`` and ``compact``, and the rows that ``udr index list`` lists.

All but ``compact`` also take the URL of a service, in place of a directory, and do the same there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import AllowHub, AsJson, print_json, print_text
from udr.errors import ConfigError, DataError
from udr.types import Json, Row
from udr_index.plural import counted
from udr_index.versions.live.transfer_cli import Durability, add_transfer_commands
from udr_index.versions.live.usage_cli import add_usage_commands

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr.data import Task as TaskType
    from udr.store.live import Outcome

Index = Annotated[
    str, typer.Argument(help="The index directory; omit it with --url.", metavar="DIR", show_default=False)
]
Task = Annotated[str | None, typer.Argument(help="The task.", metavar="TASK", show_default=False)]
Url = Annotated[str | None, typer.Option(help="Use the service at this URL, with the key in UDR_API_KEY.")]
RowFilter = Annotated[
    str | None, typer.Option(help='Only rows that pass, such as: site = "imdb" and stars >= 3.', metavar="FILTER")
]
IfMatch = Annotated[
    str | None, typer.Option("--if-match", help="Only if the row has this version now; * for any.", metavar="VERSION")
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
    task: Task = None,
    rows: Annotated[str | None, typer.Argument(help="A .jsonl, .csv or .parquet file; - for JSONL from stdin.")] = None,
    url: Url = None,
    if_match: IfMatch = None,
    durability: Durability = None,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Put rows into a task's pool, all or none; one with the id of another replaces it. Searches find them at once."""
    from udr_index.versions.live.target import known, opened

    index_, (name, path) = split(url, (index, task, rows), "TASK ROWS")
    with opened(index_, url, durability=durability, allow_hub=allow_hub) as pool:
        outcome = pool.put(name, _read(known(name, pool.tasks), Path(path)), if_match=if_match)
    _print(outcome, as_json)


def get(
    index: Index,
    task: Task = None,
    id: Annotated[str | None, typer.Argument(help="The row's id.", metavar="ID")] = None,
    url: Url = None,
) -> None:
    """Print a row as JSON, as it is now. Put -- before an id that starts with -."""
    from udr_index.versions.live.target import opened

    index_, (name, wanted) = split(url, (index, task, id), "TASK ID")
    with opened(index_, url) as pool:
        print_json(pool.demonstration(name, wanted).to_json())


def delete(
    index: Index,
    task: Task = None,
    ids: Annotated[list[str] | None, typer.Argument(help="The ids of the rows.", metavar="[ID]...")] = None,
    url: Url = None,
    filter: RowFilter = None,
    if_match: IfMatch = None,
    as_json: AsJson = False,
) -> None:
    """Delete rows of a task's pool by id, or those that pass a filter. No search finds them any more.

    Put -- before ids of which one starts with -.
    """
    from udr_index.versions.live.target import opened

    index_, (name, *wanted) = split(url, (index, task, *(ids or ())), "TASK [ID]...")
    with opened(index_, url) as pool:
        outcome = pool.delete(name, wanted or None, filter=filter, if_match=if_match)
    _print(outcome, as_json)


def list_rows(
    index: str | None, url: str | None, task: str, after: str | None, limit: int, filter: str | None, as_json: bool
) -> None:
    """Print a page of a task's rows, one a line as JSON; ``--json`` prints an object with the next page's place."""
    from udr_index.versions.live.target import opened

    with opened(index, url) as pool:
        found = pool.demonstrations(task, after=after, limit=limit, filter=filter)
    if as_json:
        print_json({"rows": [row.to_json() for row in found.rows], "next": found.next})
        return
    for row in found.rows:
        print_text(json.dumps(row.to_json(), ensure_ascii=False))
    if found.next is not None:
        typer.echo(f"udr: more rows follow; list them with: --after {found.next}", err=True)


def split(url: str | None, given: Sequence[str | None], names: str) -> tuple[str | None, list[str]]:
    """Return the index directory, None with a URL, and the arguments after it, as many as ``names`` names.

    Raises:
        ConfigError: there are more arguments, or fewer.
    """
    from udr.data import is_name
    from udr.store import is_index

    found = [item for item in given if item is not None]
    wanted, more = names.split(), names.endswith("...")
    least = len(wanted) - more + (url is None)
    # What a task may be called is one, even if a folder here is called so, too.
    is_folder = is_index(found[0]) and not is_name(found[0])
    if url is not None and (is_folder or (not more and len(found) > least)):
        raise ConfigError(f"omit the index directory with --url; found {found[0]!r}")
    if len(found) < least:
        raise ConfigError(f"give DIR {names}, or {names} with --url; found {' '.join(found)}")
    return (None, found) if url is not None else (found[0], found[1:])


def compact_(
    index: Annotated[Path, typer.Argument(help="The index directory.", metavar="DIR", show_default=False)],
    forget: Annotated[
        bool,
        typer.Option(
            "--forget", help="Empty the log, so that versions built from other rows do not get what was written."
        ),
    ] = False,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Make a new version of the current one's rows and what was written on top of it, and publish it.

    It is the version that a build of these rows makes. Searches find the same before, meanwhile and after.
    """
    from udr_index.build import show_progress
    from udr_index.versions.live.compaction import compact

    done = compact(index, forget=forget, allow_hub=allow_hub, on_progress=show_progress)
    if as_json:
        keys: dict[str, Json] = {"version": done.version, "previous": done.previous, "position": done.position}
        sizes: dict[str, Json] = {**done.sizes}
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
