"""What commands share: groups of commands, options from dataclasses, printing, and lists of names."""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import typer

from udr.cli.help import Commands
from udr.cli.status import STATUS
from udr.errors import ConfigError, UdrError, naming
from udr.types import Json


def command_group(help: str, *, completion: bool = False) -> typer.Typer:
    """Return an empty group of commands with plain help and plain errors; options install a shell's completion."""
    return Commands(
        help=help,
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with every parameter that is a dataclass replaced by the dataclass's fields.

    Commands with the same options share their dataclass: fields are annotated as Typer's parameters are.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += inspect.signature(parameter.annotation, eval_str=True).parameters.values()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


@contextmanager
def naming_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """Name the command's flags in place of settings in the errors that the body raises.

    Args:
        flags: by regular expression, what replaces its first match.
    """
    try:
        yield
    except UdrError as error:
        message = str(error)
        for pattern, flag in flags.items():
            message = re.sub(pattern, flag, message, count=1)
        error.args = (message,)
        raise


def check_tokenizers(names: Iterable[str]) -> None:
    """Raise as ``udr.models.check_tokenizer`` does, naming the flag, unless all of ``--tokenizer`` are at hand."""
    # Imported here, so that help stays light.
    from udr.models import check_tokenizer

    with naming_flags({"^": "--tokenizer: "}):
        for name in names:
            check_tokenizer(name)


def refuse_unused(given: Mapping[str, object], needed: str) -> None:
    """Raise ``ConfigError`` for the first option that is given and would be ignored.

    Args:
        given: by option, its value; None and False are not given.
        needed: what gives them an effect, and is not there.
    """
    for option, value in given.items():
        if value is not None and value is not False:
            raise ConfigError(f"{option} has no effect without {needed}; add that, or omit {option}")


def print_text(text: str) -> None:
    """Print a result as UTF-8, whatever the terminal's encoding; escape what is invalid, as in a file name.

    Raises:
        ConfigError: standard output is closed.
        OSError: its disk is full.
    """
    if sys.stdout is None:
        raise ConfigError("standard output is closed, so the result cannot be printed")
    # Both may be the same terminal.
    STATUS.finish()
    with naming("standard output"):
        typer.echo(text.encode(errors="backslashreplace"))


def print_json(value: Json) -> None:
    """Print a result as one line of JSON."""
    print_text(json.dumps(value, ensure_ascii=False))


def names_of(text: str | None) -> tuple[str, ...] | None:
    """Return the names in a comma-separated list, or None for None; ``ConfigError`` if the list has no name."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(f"expected a list of names, separated by commas; found {text!r}")
    return names
