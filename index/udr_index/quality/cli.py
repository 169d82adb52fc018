"""The commands ``udr tasks check`` and ``stats``.

``check --json`` prints ``passed``, ``tasks``, ``rows``, ``errors``, ``warnings`` (numbers), and ``findings``, each with
the keys of ``Finding`` and its ``severity``; with ``--fix`` also ``fixed``, a line for each split with rows to remove.
``stats --json`` prints ``unit`` (``words`` or ``tokens``) and ``splits``, each with the keys of ``SplitStats``,
``input`` and ``target`` for the lengths, and the share of each label.
"""

from pathlib import Path
from typing import Annotated

import typer

from udr.cli import AsJson, command_group, names_of, print_json, print_text, refuse_unused
from udr.errors import DataError, VerificationError
from udr_index.quality.config import SKEW, CheckConfig

app = command_group("Check tasks and their rows.")

_Tasks = Annotated[Path, typer.Argument(help="The folder of tasks, <family>/<task>/.", metavar="TASKS")]
_Names = Annotated[str | None, typer.Option("--tasks", help="Tasks, separated by commas.", show_default="all")]
_TextLM = Annotated[
    str | None,
    typer.Option(
        help="Read rows of 8 sentences and more with this language model, in this process: a hub name, a path, "
        "package:NAME."
    ),
]


@app.command()
def check(
    tasks_folder: _Tasks,
    tasks: _Names = None,
    model: Annotated[
        str | None, typer.Option(help="Find near-duplicates with this encoder: a hub name, a path, package:NAME.")
    ] = None,
    near: Annotated[
        float | None, typer.Option(help="The least similarity of near-duplicate inputs; 0.98 by default with --model.")
    ] = None,
    lm: Annotated[
        str | None, typer.Option(help="Count tokens as this language model does: a hub name, a path, or package:NAME.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="The language model's context window in tokens; by default that of its config.json."),
    ] = None,
    text_lm: _TextLM = None,
    skew: Annotated[
        float, typer.Option(help="A label is rare if it has less than this fraction of a label's rows on average.")
    ] = SKEW,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="First move duplicates, leaks and rows without text to removed.jsonl (JSONL only)."),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            help="The device for the models: cpu, cuda, ...",
            show_default="a GPU for the encoder if there is one, else cpu",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for problems in rows. Prints one line per finding. The exit status is 3 if there is an error.

    Errors: unreadable files, empty inputs, duplicates, rows longer than the window, rows of validation or test that
    are also in train. Warnings, which may be intended: empty or unread fields, conflicting targets, several correct
    answers, near-duplicates, labels with few rows or none, long texts that are chaotic or aggregated (--text-lm).
    """
    names = ("model", "near", "lm", "window", "text_lm", "skew", "device")
    settings = {name: value for name, value in locals().items() if name in names}
    if model is None and near is None and text_lm is None:
        refuse_unused({"--device": device}, "--model, --near or --text-lm, which need a model")
    # Imported here, so that `udr --help` stays light.
    from udr.files import refuse_remote
    from udr_index.plural import counted
    from udr_index.quality.check import check as run
    from udr_index.quality.fixing import fix as fix_folder
    from udr_index.quality.splits import open_tasks

    fixed = []
    if fix:
        refuse_remote(tasks_folder)
        for folder in open_tasks(tasks_folder, names_of(tasks)).folders.values():
            fixed += fix_folder(folder)
    report = run(CheckConfig(**settings, tasks=tasks_folder, names=names_of(tasks)))
    if as_json:
        print_json(
            {"passed": report.passed(strict), **report.to_json(), **({"fixed": [*map(str, fixed)]} if fix else {})}
        )
    else:
        for done in fixed:
            print_text(str(done))
        for finding in report.findings:
            print_text(str(finding))
    summary = (
        f"{tasks_folder}: {counted(report.errors, 'error')}, {counted(report.warnings, 'warning')} in "
        f"{counted(report.num_tasks, 'task')}, {counted(report.num_rows, 'row')}"
    )
    if not report.passed(strict):
        raise VerificationError(summary)
    if not as_json:
        print_text(summary)


@app.command()
def stats(
    tasks_folder: _Tasks,
    tasks: _Names = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Count lengths in this tokenizer's tokens: a hub name, a path, or package:NAME; else in words."
        ),
    ] = None,
    text_lm: _TextLM = None,
    device: Annotated[
        str | None, typer.Option(help="The device for this language model: cpu, cuda, ...", show_default="cpu")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the number of rows of each task and split, their lengths, fields and labels."""
    from udr.models import load_text_lm
    from udr_index.quality.stats import collect, table

    if text_lm is None:
        refuse_unused({"--device": device}, "--text-lm")
    lm = None if text_lm is None else load_text_lm(text_lm, device)
    statistics = collect(tasks_folder, names_of(tasks), tokenizer, lm)
    if as_json:
        print_json(statistics.to_json())
    else:
        print_text(table(statistics))
    if statistics.errors:
        others = len(statistics.errors) - 1
        more = f" ({others} more like this; see: udr tasks check)" if others else ""
        raise DataError(f"skipped unreadable data: {statistics.errors[0]}{more}")
