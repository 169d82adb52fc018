"""The command ``udr init``.

``--json`` prints ``folder``, ``format``, ``task`` (the keys of ``task.toml``), ``train`` and ``test`` (numbers of
rows), ``left_out`` (lines of the table by reason), ``notices``, and ``findings`` as ``udr tasks check --json`` does.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import AsJson, help_groups, print_json, print_text, refuse_unused
from udr.errors import ConfigError, listed

_ASKED = "asked for on a terminal"


@help_groups(
    {
        "Task and output": "out name family replace kind as_json",
        "Columns": "inputs target id choices merge_labels",
        "Test rows": "test_rows seed model device",
        "Reading the table": "delimiter encoding sheet",
    }
)
def init(
    table_file: Annotated[
        Path, typer.Argument(help="A table: CSV, JSONL, Parquet, Excel or OpenDocument.", metavar="TABLE")
    ],
    out: Annotated[
        str | None, typer.Option(help="The folder of tasks; the task is OUT/FAMILY/NAME.", show_default=_ASKED)
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Columns that the model reads, separated by commas; may be repeated.", show_default=_ASKED
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column of the right answer.", show_default=_ASKED)] = None,
    id: Annotated[str | None, typer.Option("--id", help="The column of ids.", show_default="line numbers")] = None,
    kind: Annotated[
        str | None, typer.Option(help="classification, generation or choices.", show_default="classification")
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(help="For choices: their columns, separated by commas, or the column that lists them."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The task's name.", show_default="from the file's name")] = None,
    family: Annotated[str | None, typer.Option(help="The family's name.", show_default="from the file's name")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make a task that exists anew; what was edited in its folder is lost.")
    ] = False,
    merge_labels: Annotated[
        bool, typer.Option("--merge-labels", help="Make labels that differ only in case, spaces or Unicode form one.")
    ] = False,
    test_rows: Annotated[
        int | None, typer.Option(help="Rows to hold out for the test.", show_default="a fifth, at most 500")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed that selects them.")] = 0,
    delimiter: Annotated[
        str | None, typer.Option(help="What separates the columns of a CSV file.", show_default="found out")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The encoding of a CSV file.", show_default="found out")] = None,
    sheet: Annotated[str | None, typer.Option(help="The sheet of an Excel file.", show_default="the first")] = None,
    model: Annotated[
        str | None, typer.Option(help="Find near-duplicates with this encoder, too: a hub name, a path, package:NAME.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="The device for the encoder: cpu, cuda, ...", show_default="a GPU if there is one, else cpu"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a task of a table: task.toml, train.jsonl and held-out test.jsonl.

    On a terminal, what is missing is asked for. Near-duplicates stay together, in train or in test.
    """
    if model is None:
        refuse_unused({"--device": device}, "--model, the encoder")
    # Imported here, so that `udr --help` stays light.
    from udr_index.preparation.config import KINDS, InitConfig
    from udr_index.preparation.questions import Answers, ask
    from udr_index.preparation.run import prepare, refuse_existing
    from udr_index.preparation.tables import read_table

    answers = Answers(
        inputs=tuple(inputs or ()), target=target, out=out, kind=kind, id=id, choices=tuple(choices or ())
    )
    if answers.kind is not None and answers.kind not in KINDS:
        raise ConfigError(f"--kind must be classification, generation or choices, found {answers.kind!r}")

    def config(answers: Answers) -> InitConfig:
        return InitConfig(
            table=table_file,
            out=Path(answers.out or ""),
            inputs=answers.inputs,
            target=answers.target or "",
            kind=KINDS[answers.kind or "classification"],
            id=answers.id,
            choices=answers.choices,
            name=name,
            family=family,
            test_rows=test_rows,
            seed=seed,
            model=model,
            device=device,
            merge_labels=merge_labels,
            replace=replace,
        )

    if not answers.missing:
        # Before a long file is read.
        refuse_existing(config(answers))
    table = read_table(table_file, [column for column in (target, id) if column], delimiter, encoding, sheet)
    if not as_json:
        print_text(f"{table_file.name}: {table.format}; {len(table.records)} rows")
    if answers.missing:
        if not sys.stdin.isatty():
            columns = listed(map(repr, table.columns), len(table.columns))
            example = "--input subject,body --target category --out tasks"
            missing = ", ".join(answers.missing)
            raise ConfigError(f"missing: {missing}; for example {example}; the columns are {columns}")
        answers = ask(table, answers)
    prepared = prepare(config(answers), table)
    if as_json:
        print_json(prepared.to_json())
        return
    for line in prepared.lines():
        print_text(line)
    folder, root = prepared.config.folder, prepared.config.out
    # The name in the README and in docs/.
    index = shlex.quote(str((root.parent if root.name else root / "..") / "my-index"))
    if prepared.report.findings or prepared.conversion.notices:
        print_text(
            f"To change rows, edit the files in {folder}. Or correct {table_file.name}, or add options, and run the "
            "command again with --replace, which makes that folder anew."
        )
    print_text(
        f"Next: edit the instruction in {folder / 'task.toml'}, then run\n"
        f"  udr index build {shlex.quote(str(root))} --out {index}\n"
        f"  udr serve {index}"
    )
