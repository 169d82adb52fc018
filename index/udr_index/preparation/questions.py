"""Questions on a terminal, for options that were not given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import typer

from udr.errors import ConfigError, UdrError, brief
from udr_index.preparation.columns import check_field, find_column, find_columns
from udr_index.preparation.config import KINDS
from udr_index.preparation.tables import Table

_Answer = TypeVar("_Answer")
_SHOWN = 30
"""The characters of an example that are shown beside its column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The options that can be asked for, None or empty if they are not given."""

    inputs: tuple[str, ...]
    target: str | None
    out: str | None
    kind: str | None
    id: str | None
    choices: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """The options without which nothing can be made."""
        needed = {"--input": self.inputs, "--target": self.target, "--out": self.out}
        return [flag for flag, value in needed.items() if not value]


def ask(table: Table, answers: Answers) -> Answers:
    """Ask for each option that is not given; an answer that does not fit is asked for again.

    Columns are answered by name or by number, as they are listed first.
    """
    columns = table.columns
    # Report mistakes in the given options before the first question.
    answers = replace(answers, inputs=find_columns("--input", answers.inputs, columns))
    for flag, name in (("--target", answers.target), ("--id", answers.id)):
        if name:
            find_column(flag, name, columns)
    typer.echo(_listing(table), err=True)
    if not answers.inputs:
        inputs = _question("Columns that the model reads, separated by commas (--input)", _columns(columns, "--input"))
        answers = replace(answers, inputs=inputs)
    if not answers.target:
        others = [name for name in columns if name not in answers.inputs]
        (target,) = _question(
            "Column of the right answer (--target)", _columns(columns, "--target", one=True, of=others)
        )
        answers = replace(answers, target=target)
    if answers.kind is None:
        kind = _question("Kind of task: classification, generation, choices (--kind)", _kind, "classification")
        answers = replace(answers, kind=kind)
    if KINDS[answers.kind or ""] is KINDS["choices"] and not answers.choices:
        choices = _question("Columns of the choices (--choices)", _columns(columns, "--choices"))
        answers = replace(answers, choices=choices)
    if answers.id is None:
        ids = _question("Column of unique ids, or - for line numbers (--id)", _columns(columns, "--id", one=True), "-")
        answers = replace(answers, id=next(iter(ids), None))
    if not answers.out:
        answers = replace(answers, out=_question("Folder of tasks to write into (--out)", str, "tasks"))
    return answers


def _listing(table: Table) -> str:
    lines = [f"Columns of {table.path.name}:"]
    width = max(map(len, table.columns))
    for number, name in enumerate(table.columns, 1):
        values = (record.get(name) for _, record in table.records)
        example = next((value for value in values if value not in (None, "")), "")
        text = " ".join(str(example).split())
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        lines.append(f"  {number:2}  {name.ljust(width)}  {shown}".rstrip())
    return "\n".join(lines)


def _question(text: str, parse: Callable[[str], _Answer], default: str | None = None) -> _Answer:
    def valid(answer: str) -> _Answer:
        try:
            return parse(answer)
        except UdrError as error:
            # Typer shows it and asks again.
            raise typer.BadParameter(str(error)) from error

    result: _Answer = typer.prompt(text, default=default, value_proc=valid, err=True)
    return result


def _columns(
    columns: Sequence[str], flag: str, *, one: bool = False, of: Sequence[str] | None = None
) -> Callable[[str], tuple[str, ...]]:
    def parse(answer: str) -> tuple[str, ...]:
        if answer.strip() == "-" and flag == "--id":
            return ()
        parts = [answer] if answer.strip() in columns else answer.split(",")
        named = [_by_number(part.strip(), columns) for part in parts]
        names = tuple(name for part in named for name in find_columns(flag, [part], columns))
        if not names or (one and len(names) > 1):
            raise ConfigError(f"one column is needed, found {brief(answer)}")
        for name in names:
            if of is not None and name not in of:
                raise ConfigError(f"the model reads the column {name!r} already")
            if flag == "--input":
                check_field(name)
        return names

    return parse


def _by_number(answer: str, columns: Sequence[str]) -> str:
    if answer not in columns and answer.isdecimal() and 1 <= int(answer) <= len(columns):
        return columns[int(answer) - 1]
    return answer


def _kind(answer: str) -> str:
    if answer.strip() not in KINDS:
        raise ConfigError(f"must be classification, generation or choices, found {brief(answer)}")
    return answer.strip()
