"""The commands ``udr index usage`` and ``outcomes``."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from udr.cli import AsJson, IndexDir, print_json, print_text
from udr_index.plural import counted

# Imported in the commands, so that `udr --help` stays light.
if TYPE_CHECKING:
    from udr_index.versions.live.usage import TaskUsage

_LISTED = 5  # in a line of text


def add_usage_commands(app: typer.Typer) -> None:
    """Add these commands to the group ``udr index``."""
    app.command("usage")(usage_)
    app.command("outcomes")(outcomes)


def usage_(index: IndexDir, as_json: AsJson = False) -> None:
    """Show what services counted: demonstrations never or always shown, those with bad outcomes, labels starved.

    Suggests what to remove, as a list to review; removes nothing. Text output names the first ids, JSON all of them.
    """
    from udr_index.versions.live.usage import usage

    tasks = usage(index)
    if as_json:
        print_json({"tasks": {task.task: asdict(task) for task in tasks}})
    else:
        print_text("\n".join(line for task in tasks for line in _lines(index, task)))


def outcomes(
    index: IndexDir,
    out: Annotated[Path, typer.Option("--out", help="The JSONL file, which must not exist.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write the outcomes of prompts to a file, with the inputs that udr serve --usage inputs kept.

    Each line has the task, the demonstrations shown and the score, and the target if it was told.
    """
    from udr_index.versions.live.usage import export_outcomes

    done = export_outcomes(index, out)
    if as_json:
        print_json(asdict(done))
        return
    print_text(f"{out}: {counted(done.outcomes, 'outcome')}")
    if done.without_input:
        print_text(
            f"{done.without_input} of them have no input, as it was not kept or is too long; keep inputs by: "
            f"udr serve {shlex.quote(str(index))} --usage inputs"
        )


def _lines(index: Path, task: "TaskUsage") -> Iterator[str]:
    since = "" if task.since is None else f" since {datetime.fromtimestamp(task.since):%Y-%m-%d}"
    mean = "" if task.mean is None else f", mean score {task.mean:.2f}"
    yield (
        f"{task.task}: {counted(task.rows, 'demonstration')}, retrieved {task.retrieved} times; "
        f"{counted(task.prompts, 'prompt')}{since}, {counted(task.outcomes, 'outcome')}{mean}"
    )
    always = [f"{id} ({share:.0%})" for id, share in task.always_shown.items()]
    bad = [f"{item.id} ({item.estimate:.2f} of {item.outcomes})" for item in task.bad]
    starved = [f"{item.label} ({item.of_pool:.0%} of the pool, {item.of_shown:.0%} shown)" for item in task.starved]
    for name, found in (
        ("never shown", task.never_shown),
        ("always shown", always),
        ("bad outcomes", bad),
        ("labels starved", starved),
        ("to review", task.remove),
    ):
        if found:
            yield f"  {name}: {len(found)}: {_first(found)}"
    if task.remove:
        # What follows -- may start with -.
        words = ["udr", "index", "delete", "--", str(index), task.task, *task.remove[:_LISTED]]
        yield f"  remove those that are wrong by: {shlex.join(words)}"


def _first(found: Sequence[str]) -> str:
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more
