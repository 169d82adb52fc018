"""What commands share: how groups are made, how results are printed, how lists of names are read."""

import json
from typing import Annotated

import typer

from udr.errors import ConfigError
from udr.types import Json

Fp16 = Annotated[bool, typer.Option("--fp16", help="Search a GPU's flat partitions in half the memory.")]
"""An option of every command that searches on a device."""


def command_group(help: str) -> typer.Typer:
    """Return an empty group of commands with plain help and plain errors: the same everywhere, and light."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def print_text(text: str) -> None:
    """Print a result, in UTF-8 whatever the terminal's encoding is; what is none, as in a file's name, is escaped."""
    typer.echo(text.encode(errors="backslashreplace"))


def print_json(value: Json) -> None:
    """Print a result as JSON on one line."""
    print_text(json.dumps(value, ensure_ascii=False))


def names_of(listed: str | None) -> tuple[str, ...] | None:
    """Return the names in a list that commas separate; None where none was given.

    Raises:
        ConfigError: the list holds no name.
    """
    if listed is None:
        return None
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    if not names:
        raise ConfigError(f"a list of names, separated by commas, was expected; found {listed!r}")
    return names
