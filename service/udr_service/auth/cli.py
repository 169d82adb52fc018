"""The command ``udr keys``."""

from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group, print_text
from udr.errors import MissingExtraError
from udr_service.auth.access import Scope

app = command_group("Make the API keys that a service accepts.")


@app.command()
def new(
    name: Annotated[str, typer.Option(help="The name of the key's user; shown in logs.", show_default=False)],
    scope: Annotated[
        Scope,
        typer.Option(
            help="read: send queries. write: also put and delete demonstrations. admin: also reload and read metrics.",
            show_default=False,
        ),
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="A task that the key is for; repeatable.", metavar="NAME")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="A family that the key is for; repeatable.", metavar="NAME")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(help='The only rows that the key is for, such as: tenant = "shop".', metavar="FILTER"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Add the entry to this file, or create the file.", metavar="FILE")
    ] = None,
) -> None:
    """Make a key and print it once. Its entry, with the key's SHA-256, goes to stderr or into a file.

    Without --task and --family, the key is for all tasks. With --filter, its requests find only the rows that pass. The
    entry can also limit what the key's client may take: requests_per_second, items_per_second, concurrent_requests,
    queue_share.
    """
    # Imported here, so that no other command loads pydantic.
    try:
        from udr_service.auth.key_file import append
        from udr_service.auth.keys import new_key
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name}, which API keys need,", "service") from error
    key, entry = new_key(name, scope, task or (), family or (), filter)
    if file is None:
        typer.echo(entry.to_toml(), nl=False, err=True)
    else:
        # Before the key is printed: without its entry it would be useless.
        append(file, entry)
        typer.echo(f"udr: {file}: added {name}, {scope}; running services accept it after their next reload", err=True)
    print_text(key)
