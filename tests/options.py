"""A check that every option of a command arrives: a table of what each one changes in what the command calls."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import typer

from udr.cli import application, main

Changes = dict[str, tuple[str, Mapping[str, object]]]
"""By parameter: words of a command line that has its option, and what then differs, by name of what is called."""


class CalledError(BaseException):
    """Stops a command where it has called a recorder."""


class Recorder:
    """Stands in for what a command calls: keeps what it is called with, by name, and ends the command.

    Args:
        names: those of the values without one; empty for what is not kept.
    """

    def __init__(self, *names: str) -> None:
        self.names, self.last = names, dict[str, Any]()

    def keep(self, *values: object, **named: object) -> None:
        """Keep what something is called with that the command goes on from."""
        given = {name: value for name, value in zip(self.names, values, strict=False) if name}
        self.last |= {**given, **named}

    def __call__(self, *values: object, **named: object) -> None:
        """Keep what something is called with, and end the command."""
        self.keep(*values, **named)
        raise CalledError


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted name, without the mappings and dataclasses that they are in."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        inner = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        result |= flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {f"{prefix}{name}": inner}
    return result


def parameters(command: str) -> set[str]:
    """Return the names of a command's options; its arguments are in every test of the command."""
    found: Any = typer.main.get_command(application(command.split()[0]))
    for word in command.split():
        found = found.commands[word]
    return {str(item.name) for item in found.params if item.param_type_name == "option"}


def assert_each_arrives(
    command: str,
    arguments: Iterable[object],
    calls: Callable[[], Recorder],
    changes: Changes,
    others: Iterable[str] = (),
) -> None:
    """Assert that each option changes what a command calls as a table says, and nothing else.

    Args:
        command: its words, such as ``index build``.
        arguments: what is given in each call.
        calls: returns the recorder of a new call.
        changes: for every option of the command; so a new one fails until it has its line.
        others: the options that have tests of their own, since they change what is done with the result.
    """
    assert sorted([*changes, *others]) == sorted(parameters(command))

    def called(words: str) -> dict[str, Any]:
        recorder = calls()
        try:
            status = main([*command.split(), *map(str, arguments), *words.split()])
        except CalledError:
            return flat(recorder.last)
        raise AssertionError(f"udr {command} {words} ended with {status}, and called nothing")

    plain = called("")
    for name, (words, expected) in changes.items():
        given = called(words)
        changed = {key: given.get(key) for key in {*plain, *given} if given.get(key) != plain.get(key)}
        assert changed == expected and expected, f"{name}: {words}"
