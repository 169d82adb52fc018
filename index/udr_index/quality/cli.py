"""The commands ``udr tasks check`` and ``stats``: arguments to configuration to one call.

``check --json`` prints an object: ``passed``, ``tasks``, ``rows``, ``errors`` and ``warnings`` (numbers), and
``findings``, each with the keys of ``udr_index.care.findings.Finding`` and its ``severity``. ``stats --json`` prints
one with ``unit`` (``words`` or ``tokens``) and ``splits``, each with the keys of ``udr_index.care.stats.SplitStats``,
``input`` and ``target`` for the lengths, and the share of each label.
"""

from pathlib import Path
from typing import Annotated

import typer

from udr.cli import command_group, names_of, print_json, print_text
from udr.errors import DataError, VerificationError
from udr_index.quality.config import SKEW, CheckConfig

app = command_group("Look after tasks and their rows.")

_Tasks = Annotated[Path, typer.Argument(help="A collection: <family>/<task>/task.toml and rows.", metavar="TASKS")]
_Names = Annotated[str | None, typer.Option("--tasks", help="Tasks to take, separated by commas; all by default.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(
    tasks_folder: _Tasks,
    tasks: _Names = None,
    model: Annotated[
        str | None, typer.Option(help="Look for near-duplicates by this encoder: a hub name, a path, package:NAME.")
    ] = None,
    near: Annotated[
        float | None, typer.Option(help="The similarity from which inputs are near-duplicates; 0.98 with --model.")
    ] = None,
    lm: Annotated[
        str | None, typer.Option(help="Count tokens as this language model does: a folder with a tokenizer.json.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="The tokens that it reads at once; by default its config.json tells.")
    ] = None,
    skew: Annotated[float, typer.Option(help="A label is rare below this part of its even share of the rows.")] = SKEW,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    device: Annotated[str | None, typer.Option(help="Where the encoder runs: cpu, cuda, ...")] = None,
    as_json: _Json = False,
) -> None:
    """Look for what is wrong with rows. Prints one line a finding; exit status 3 when there is an error.

    Errors: what cannot be read, empty inputs, duplicates, conflicting targets, rows over the window, rows of
    validation or test that are in train too. Warnings, which may be meant: empty fields, several right answers,
    near-duplicates, labels that no row or few rows have.
    """
    # Imported here, so that `udr --help` stays light.
    from udr_index.plural import counted
    from udr_index.quality.check import check as run

    config = CheckConfig(
        tasks=tasks_folder,
        names=names_of(tasks),
        model=model,
        near=near,
        lm=lm,
        window=window,
        skew=skew,
        device=device,
    )
    report = run(config)
    if as_json:
        print_json({"passed": report.passed(strict), **report.to_json()})
    else:
        for finding in report.findings:
            print_text(str(finding))
    looked_at = f"{counted(report.num_tasks, 'task')}, {counted(report.num_rows, 'row')}"
    found = f"{counted(report.errors, 'error')}, {counted(report.warnings, 'warning')}"
    if not report.passed(strict):
        raise VerificationError(f"{tasks_folder}: {found} in {looked_at}")
    if not as_json:
        print_text(f"{tasks_folder}: {found} in {looked_at}")


@app.command()
def stats(
    tasks_folder: _Tasks,
    tasks: _Names = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count lengths in its tokens: a hub name, a path, package:NAME; else in words.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show how many rows each task and split has, how long they are, their fields and labels."""
    from udr_index.quality.stats import collect
    from udr_index.quality.stats_table import table

    statistics = collect(tasks_folder, names_of(tasks), tokenizer)
    if as_json:
        print_json(statistics.to_json())
    else:
        print_text(table(statistics))
    if statistics.errors:
        others = len(statistics.errors) - 1
        more = f" ({others} more like this; see: udr tasks check)" if others else ""
        raise DataError(f"left out what cannot be read: {statistics.errors[0]}{more}")
