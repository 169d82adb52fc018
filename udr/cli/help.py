"""The help of long commands: options in groups, each with its default; and the order of the commands."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

_Command = TypeVar("_Command", bound=Callable[..., None])

COMMANDS = (
    *("init", "tasks", "index", "serve", "retrieve", "prompt", "train", "evaluate", "feedback", "pool"),
    *("keys", "mcp", "doctor"),
)
"""The commands in the order in which people need them; others come after."""

_GROUPS = "help_groups"

# Click sets a default that is given as words in parentheses.
_WORDED = re.compile(r"\[default: \((.*)\)([^)]*)\]$")

OTHERS = "Options"
"""The title of the options without a group."""


@dataclass(frozen=True, slots=True)
class HelpGroups:
    """How a command's help shows its options.

    Attributes:
        groups: the names of parameters, separated by spaces, by the title of their group.
        defaults: returns what is to be shown as default of some parameters; called only when the help is shown.
    """

    groups: Mapping[str, str]
    defaults: Callable[[], Mapping[str, str]] = dict


def help_groups(
    groups: Mapping[str, str], defaults: Callable[[], Mapping[str, str]] = dict
) -> Callable[[_Command], _Command]:
    """Return a decorator that gives a command ``HelpGroups``."""

    def decorate(command: _Command) -> _Command:
        setattr(command, _GROUPS, HelpGroups(groups, defaults))
        return command

    return decorate


def groups_of(command: object) -> HelpGroups | None:
    """Return the groups of a command's function; None without any."""
    return cast("HelpGroups | None", getattr(command, _GROUPS, None))


class Command(TyperCommand):
    """A command whose help shows its options in groups, if it has any."""

    # Typer's types of its own copy of click are private.
    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the arguments, then each group."""
        for title, records in sections(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)


def sections(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:  # noqa: ANN401
    """Return what the help says of a command's arguments and options, in pairs, by the title of their group."""
    shown = groups_of(command.callback) or HelpGroups({})
    titles = {name: title for title, names in shown.groups.items() for name in names.split()}
    found: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{title: [] for title in shown.groups}}
    defaults = shown.defaults()
    for parameter in command.get_params(ctx):
        argument = parameter.param_type_name == "argument"
        if shown.groups and not argument:
            _show_default(parameter, defaults)
        if (record := parameter.get_help_record(ctx)) is not None:
            title = "Arguments" if argument else titles.get(str(parameter.name), OTHERS)
            names, text = record
            found.setdefault(title, []).append((names, _WORDED.sub(r"[default: \1\2]", text)))
    return {title: records for title, records in found.items() if records}


def _show_default(option: Any, defaults: Mapping[str, str]) -> None:  # noqa: ANN401
    """Make an option's help show a default even if it is None."""
    if option.name in defaults:
        option.show_default = defaults[option.name]
    elif option.default is None and option.show_default is True and not (option.is_flag or option.required):
        option.show_default = "none"


class Group(TyperGroup):
    """A group that lists its commands in the order of ``COMMANDS``."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """Return the names of the commands; those that have no place come last, in their own order."""
        known = {name: place for place, name in enumerate(COMMANDS)}
        return sorted(super().list_commands(ctx), key=lambda name: known.get(name, len(known)))


class Commands(typer.Typer):
    """A group of commands whose commands are ``Command``."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401
        """Register a command, as Typer does."""
        return super().command(name, **{"cls": Command, **settings})
