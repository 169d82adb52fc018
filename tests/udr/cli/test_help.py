"""The help: commands in the order of their use, and the options of long commands in groups, each with its default."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from udr.cli import application, groups_of, main

LONG = 18
"""Commands with as many options have groups."""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*words, name))
    if not hasattr(command, "commands"):
        yield " ".join(words), command


COMMANDS = dict(leaves(typer.main.get_command(application())))
GROUPED = sorted(name for name, command in COMMANDS.items() if groups_of(command.callback))


def test_commands_are_listed_in_the_order_of_their_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE)
    assert listed == ("init tasks index serve retrieve prompt train evaluate feedback pool keys mcp doctor".split())


def test_every_long_command_has_groups() -> None:
    long = {name for name, command in COMMANDS.items() if len(command.params) >= LONG}
    assert long <= set(GROUPED) and {"train", "serve", "index build", "evaluate", "retrieve", "prompt"} <= set(GROUPED)


@pytest.mark.parametrize("name", GROUPED)
def test_each_option_is_in_one_group_and_shows_its_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[name]
    shown = groups_of(command.callback)
    assert shown is not None
    grouped = " ".join(shown.groups.values()).split()
    options = {str(item.name): item for item in command.params if item.param_type_name == "option"}
    assert sorted(grouped) == sorted(options)

    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles == ["Arguments", *shown.groups, "Options"]
    entries = dict(re.findall(r"^  (--[a-z0-9-]+)(.*?)(?=^  --|^\S|\Z)", text, re.MULTILINE | re.DOTALL))
    without = {
        flag for flag, entry in entries.items() if "[default:" not in entry and not re.search(r"required\s*\]", entry)
    }
    switches = {item.opts[0] for item in options.values() if item.is_flag}
    assert without <= switches | {"--help"}
    assert "[default: (" not in " ".join(text.split())


def test_the_defaults_of_a_training_are_those_of_its_preset(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--iterations <int> Mining iterations, one training each. [default: 2 in preset cpu]" in text
    assert "is a negative. [default: no in preset cpu]" in text
