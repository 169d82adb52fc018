"""The command ``udr keys``."""

from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group, print_text
from udr_service.auth.keys import Scope, append, new_key

app = command_group("Make the API keys that a service takes.")


@app.command()
def new(
    name: Annotated[str, typer.Option(help="Whose key it is; shown in logs.", show_default=False)],
    scope: Annotated[Scope, typer.Option(help="To ask, or to reload and read metrics as well.", show_default=False)],
    file: Annotated[Path | None, typer.Option(help="Add the entry to this file, or begin one.", metavar="FILE")] = None,
) -> None:
    """Make a key and print it, this once. Its entry, which has the key's SHA-256, goes to stderr, or into a file."""
    key, entry = new_key(name, scope)
    if file is None:
        typer.echo(entry.to_toml(), nl=False, err=True)
    else:
        # Before the key is shown: one that was not added would open nothing.
        append(file, entry)
        typer.echo(f"udr: {file}: added {name}, {scope}; running services take it at their next reload", err=True)
    print_text(key)
