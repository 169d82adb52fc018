"""The commands ``udr index publish``, ``list``, ``diff``, ``prune``, ``export-encoder`` and ``place``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from udr.cli import AllowHub, AsJson, IndexDir, naming_flags, print_json, print_text
from udr.errors import ConfigError
from udr_index.plural import counted
from udr_index.versions.shown import diff_json, diff_lines, pruned_lines, version_json, version_line

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr.models import Runtime

_MAX_IDS = 5  # in a line of text

_NAMES = "a name, the beginning of a name, or CURRENT"


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the group ``udr index``."""
    app.command()(publish)
    app.command("list")(list_)
    app.command()(diff)
    app.command()(prune)
    app.command()(export_encoder)
    app.command("place")(place_)


def publish(
    index: IndexDir,
    version: Annotated[str, typer.Argument(help=f"The version: {_NAMES}.", metavar="VERSION", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(help="Copy the version to this index on a remote store, and make it the current one there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version, newer or older, the current one. If it is damaged, refuse with exit status 3."""
    from udr.files import remote_url
    from udr_index.versions.catalog import publish as run
    from udr_index.versions.catalog import upload

    published = run(index, version) if to is None else upload(index, version, to)
    place = to or remote_url(index) or str(index)
    if as_json:
        print_json(asdict(published))
    elif published.version == published.previous:
        print_text(f"{place}: version {published.version} is already current")
    else:
        print_text(
            f"{place}: version {published.version} is now current; the previous one is {published.previous or 'none'}"
        )


def list_(
    index: Annotated[
        str, typer.Argument(help="The index directory; omit it with --url.", metavar="DIR", show_default=False)
    ],
    task: Annotated[
        str | None, typer.Argument(help="List the rows of this task, not the versions.", metavar="[TASK]")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="List the rows of the service at this URL, with the key in UDR_API_KEY.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Where the page starts, as the one before says.")] = None,
    limit: Annotated[int | None, typer.Option(help="Rows of a page.", min=1, max=1000, show_default="100")] = None,
    filter: Annotated[
        str | None, typer.Option(help='List the rows that pass, such as: site = "imdb".', metavar="FILTER")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the versions of an index, newest first, with time, size and contents; * marks the current one.

    With a task, show its rows as JSON, with what was written on top of the current version, in the order of their ids.
    """
    if task is not None or url is not None:
        from udr_index.versions.live import list_rows, split

        index_, (name,) = split(url, (index, task), "TASK")
        list_rows(index_, url, name, after, limit or 100, filter, as_json)
        return
    for name, value in (("after", after), ("limit", limit), ("filter", filter)):
        if value is not None:
            raise ConfigError(f"--{name} is for rows; name their TASK after the index directory")
    from udr_index.versions.catalog import list_versions

    infos = list_versions(Path(index))
    if as_json:
        print_json([version_json(info) for info in infos])
        return
    for info in infos:
        print_text(version_line(info))
    if not any(info.is_current for info in infos):
        print_text(f"no version is current; run: udr index publish {index} VERSION")


def diff(
    index: IndexDir,
    old: Annotated[str, typer.Argument(help=f"One version: {_NAMES}.", metavar="A", show_default=False)],
    new: Annotated[str, typer.Argument(help="The other version.", metavar="B", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show how version B of an index differs from A: settings, definitions of tasks, and rows by their ids.

    Text output names the first rows, JSON all of them.
    """
    from udr_index.versions.diff import diff_versions

    result = diff_versions(index, old, new, None if as_json else _MAX_IDS)
    if as_json:
        print_json(diff_json(result))
    else:
        print_text("\n".join(diff_lines(result)))


def prune(
    index: IndexDir,
    keep: Annotated[
        int,
        typer.Option("--keep", help="How many versions to keep: the current one, and the newest others.", metavar="N"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the oldest versions of an index, and the files of interrupted builds, which then cannot resume."""
    from udr_index.versions.pruning import prune as run

    with naming_flags({"^at least 1 version must": "--keep: at least 1 version must"}):
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
        print_text("\n".join(pruned_lines(index, pruned, dry_run)))


def export_encoder(
    index: IndexDir,
    engine: Annotated[
        str, typer.Option(help="onnx, or onnx-int8, which adds a graph in 8 bits: faster, but less exact.")
    ] = "onnx",
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Add the encoder for ONNX Runtime to the current version, as a new version, so that services need no torch."""
    from udr_index.versions.export import export_encoder as run

    published = run(index, engine=cast("Runtime", engine), allow_hub=allow_hub)
    if as_json:
        print_json(asdict(published))
    elif published.version == published.previous:
        print_text(f"{index}: version {published.version} already carries its encoder")
    else:
        print_text(f"{index}: version {published.version} is now current; the previous one is {published.previous}")


def place_(
    file: Annotated[Path, typer.Argument(help="The file to write.", metavar="PLACEMENTS", show_default=False)],
    shards: Annotated[
        list[str],
        typer.Argument(
            help="The index directories of all shards, or their URLs on a store, each with the services that serve it.",
            metavar="DIR=URL[,URL]",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Write the manifest of placements: which services serve which shard. udr serve PLACEMENTS asks all of them."""
    from udr_index.versions.shards import place as run

    given: dict[Path, list[str]] = {}
    for shard in shards:
        folder, sign, urls = shard.partition("=")
        if not sign or not urls:
            raise ConfigError(f"name each shard and its services as DIR=URL or DIR=URL,URL; found {shard!r}")
        given.setdefault(Path(folder), []).extend(urls.split(","))
    placements = run(file, given)
    rows, number = sum(placements.sizes.values()), sum(len(shard.urls) for shard in placements.shards)
    if as_json:
        print_json({"version": placements.version, "shards": len(placements.shards), "demonstrations": rows})
    else:
        shown = f"{counted(len(placements.shards), 'shard')} at {counted(number, 'service')}"
        print_text(f"{file}: version {placements.version}, {counted(rows, 'demonstration')} in {shown}")
