"""From the records of a table to a task and its rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from udr.data import Kind, Metric, Task, Template, check_id, copy_text, parse_task, value_text
from udr.errors import ConfigError, DataError, brief, listed
from udr.types import VALUES, Fields, Json, Row, is_value
from udr_index.plural import counted
from udr_index.preparation.columns import check_field, distinct_ids, find_column, find_columns, split_notices
from udr_index.preparation.config import InitConfig
from udr_index.preparation.dialect import MOST_UNREADABLE
from udr_index.preparation.tables import CSV, Table
from udr_index.preparation.targets import (
    FORMS,
    find_reading,
    number_notices,
    right_answers,
    row_choices,
    spelling_notices,
    spellings,
)
from udr_index.preparation.task_file import instruction, title
from udr_index.preparation.values import UNFIT, as_text, is_inexact, number, tidy

_MOST_LABELS = 0.5
"""The share of different labels among the rows from which they are answers, not labels."""

_FEW_LABELS = 20
"""As many different labels are never too many."""

_NO_CHOICES = "rows without two different choices"
_NO_CHOICE = "rows whose target is not one of their choices"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a table became.

    Attributes:
        task: the task, with the labels that were found.
        rows: the rows in the table's order, stripped, without duplicates, with distinct ids.
        left_out: the lines of the table that became no row, by the reason.
        notices: what else is worth knowing, a sentence each.
    """

    task: Task
    rows: tuple[Row, ...]
    left_out: Mapping[str, Sequence[int]]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    inputs: tuple[str, ...]
    target: str
    id: str | None
    choices: tuple[str, ...]
    # What targets are to the choices.
    reading: str = ""

    @property
    def used(self) -> set[str]:
        return {*self.inputs, self.target, *self.choices} | ({self.id} if self.id is not None else set())


def convert(table: Table, config: InitConfig) -> Conversion:
    """Convert a table.

    Raises:
        ConfigError: a column does not exist or cannot be a field, or the target does not fit the kind of task.
        DataError: a value of a column that is used is of no type that a row can have, an id is too long, or no row is
            left.
    """
    columns = _find(table, config)
    task = _draft(columns, config)
    labels = (as_text(tidy(record.get(columns.target))) for _, record in table.records)
    groups = spellings(labels if task.kind is Kind.CLASSIFICATION else ())
    replacements = {label: next(iter(group)) for group in groups for label in group} if config.merge_labels else {}
    if task.kind is Kind.MULTIPLE_CHOICE:
        columns = replace(columns, reading=find_reading(columns.choices, _choices_and_targets(table, columns)))
    numeric = _numeric(table, columns)
    left_out = {reason: list(lines) for reason, lines in table.left_out.items()}
    rows: dict[object, tuple[int, str, Row]] = {}
    unfit: Counter[str] = Counter()
    inexact = 0
    for line, record in table.records:
        cells = {name: tidy(record.get(name)) for name in table.columns}
        cells |= {name: number(str(cells[name])) for name in numeric}
        reason, row = _row(cells, columns, task, table, line)
        if row is None:
            left_out.setdefault(reason, []).append(line)
            continue
        row = replace(row, target=replacements.get(row.target, row.target))
        key = _key(task, row)
        if key in rows:
            left_out.setdefault("repeats of an earlier row", []).append(line)
            continue
        unfit.update(name for name, value in cells.items() if value is UNFIT)
        id = None if columns.id is None else cells[columns.id]
        inexact += is_inexact(id)
        rows[key] = line, as_text(id), row
    if columns.choices:
        _refuse_misread(table, columns, left_out, len(rows))
    if not rows:
        reasons = ", ".join(f"{len(lines)} {reason}" for reason, lines in left_out.items())
        raise DataError(f"no row is left; left out are {reasons}", path=table.path)
    kept = list(rows.values())
    ids, notices = distinct_ids(kept, columns.id)
    if inexact:
        numbers = counted(inexact, "id is a number", "ids are numbers")
        found = f"{numbers} of 2**53 or more in the column {columns.id!r}, whose last digits may be lost"
        notices.append(f"{found}; store the column as text")
    if columns.choices:
        notices.append(f"the column {columns.target!r} is read as {columns.reading}")
    if numeric:
        names = listed(map(repr, numeric), len(numeric))
        notices.append(f"metadata of only numbers is kept as numbers, which filters compare by size: {names}")
    for name, count in sorted(unfit.items()):
        values = counted(count, "value is", "values are")
        notices.append(f"{values} left out from the column {name!r}, since JSON lacks such (bytes, infinite numbers)")
    notices += split_notices([row for _, _, row in kept])
    notices += spelling_notices(groups, config.merge_labels)
    notices += number_notices(sorted({row.target for _, _, row in kept}) if task.kind is Kind.CLASSIFICATION else ())
    field = columns.id or "id"
    numbered = tuple(
        replace(row, id=check_id(id, table.path, line, field)) for (line, _, row), id in zip(kept, ids, strict=True)
    )
    return Conversion(_with_labels(task, numbered, columns), numbered, left_out, tuple(notices))


def _find(table: Table, config: InitConfig) -> _Columns:
    inputs = find_columns("--input", config.inputs, table.columns)
    target = find_column("--target", config.target, table.columns)
    if not inputs:
        raise ConfigError("--input names no column; give the columns that the model reads, separated by commas")
    if target in inputs:
        raise ConfigError(f"--target {target!r} is also an --input, so the model would read the answer; omit it there")
    for name in inputs:
        check_field(name)
    choices = find_columns("--choices", config.choices, table.columns)
    return _Columns(
        inputs, target, None if config.id is None else find_column("--id", config.id, table.columns), choices
    )


def _numeric(table: Table, columns: _Columns) -> list[str]:
    """Return the columns of CSV that become metadata and hold only numbers, each written as JSON writes it."""
    names = [name for name in table.columns if name not in columns.used and table.path.suffix.lower() in CSV]
    texts = {name: [text for _, record in table.records if (text := tidy(record[name]))] for name in names}
    return [name for name in names if texts[name] and all(number(str(text)) is not None for text in texts[name])]


def _choices_and_targets(table: Table, columns: _Columns) -> Iterator[tuple[Mapping[str, object], str]]:
    for _, record in table.records:
        yield {name: tidy(record.get(name)) for name in columns.choices}, as_text(tidy(record.get(columns.target)))


def _refuse_misread(table: Table, columns: _Columns, left_out: Mapping[str, Sequence[int]], kept: int) -> None:
    """Raise ``DataError`` if many rows have no choices or a target that is none, so that they mean something else."""
    lines = sorted(line for reason in (_NO_CHOICES, _NO_CHOICE) for line in left_out.get(reason, ()))
    if len(lines) <= MOST_UNREADABLE * (total := kept + len(lines)):
        return
    record = next(record for line, record in table.records if line == lines[0])
    shown = ", ".join(f"{name} {brief(record.get(name))}" for name in (columns.target, *columns.choices))
    read = f", read as {columns.reading}," if columns.reading else ""
    raise DataError(
        f"{len(lines)} of {counted(total, 'row')} have no two different choices, or a target that{read} is none of "
        f"them. Line {lines[0]} has {shown}. {FORMS}",
        path=table.path,
    )


def _draft(columns: _Columns, config: InitConfig) -> Task:
    """Return the task, as yet without labels."""
    answer = title(columns.target) or "Answer"
    return Task(
        name=config.folder.name,
        family=config.folder.parent.name,
        kind=config.kind,
        instruction=instruction(config.kind, answer),
        input=Template("\n".join(f"{title(name) or name}: {{{name}}}" for name in columns.inputs)),
        output=Template(f"{answer}: {{target}}"),
        metric=Metric.ROUGE_L if config.kind is Kind.GENERATION else Metric.ACCURACY,
    )


def _row(cells: Mapping[str, object], columns: _Columns, task: Task, table: Table, line: int) -> tuple[str, Row | None]:
    """Return the row of some cells, as yet without its id; or why there is none."""
    if all(_is_blank(value) for value in cells.values()):
        return "blank lines", None
    right = right_answers(cells[columns.target]) if task.kind is Kind.GENERATION else None
    if right is not None:
        cells = {**cells, columns.target: next(iter(right), None)}
    for name in columns.used:
        # A column that holds all choices may have an object.
        if not is_value(cells[name]) and (columns.choices != (name,) or name in columns.inputs):
            flat = "; flatten the table: a column for each key" if isinstance(cells[name], dict) else ""
            raise DataError(
                f"must be {VALUES}, found {brief(cells[name])}{flat}", path=table.path, line=line, field=name
            )
    for name in columns.used.difference(columns.inputs, columns.choices):
        if isinstance(cells[name], list):
            several = "; only with --kind generation may a target list all right answers"
            message = (
                f"must be one text or number, found {brief(cells[name])}{several if name == columns.target else ''}"
            )
            raise DataError(message, path=table.path, line=line, field=name)
    input = cast("Fields", {name: "" if cells[name] is None else cells[name] for name in columns.inputs})
    target = as_text(cells[columns.target])
    if not target:
        return "rows without a target", None
    if not any(value_text(value).strip() for value in input.values()):
        return "rows without a text in any input column", None
    choices: tuple[str, ...] = ()
    if task.kind is Kind.MULTIPLE_CHOICE:
        choices, target = row_choices(columns.choices, cells, target, columns.reading)
        if len(choices) < 2 or len(set(choices)) < len(choices):
            return _NO_CHOICES, None
        if not target:
            return _NO_CHOICE, None
    others = {
        name: cast("Json", value)
        for name, value in cells.items()
        if name not in columns.used and value is not UNFIT and not _is_blank(value)
    }
    references = tuple(right) if right and len(right) > 1 else ()
    return "", Row(id="", input=input, target=target, choices=choices, references=references, metadata=others)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str | list) and not value)


def _key(task: Task, row: Row) -> object:
    """Return what duplicates share, as ``udr tasks check`` finds them."""
    choices = frozenset(" ".join(choice.split()) for choice in row.choices)
    return copy_text(task, row), " ".join(row.target.split()), choices


def _with_labels(task: Task, rows: Sequence[Row], columns: _Columns) -> Task:
    if task.kind is Kind.CLASSIFICATION:
        labels = sorted({row.target for row in rows})
        if len(labels) < 2:
            found = f"--target {columns.target!r} is {labels[0]!r} in every row"
            raise ConfigError(f"{found}; a classification task needs at least two labels; is it the right column?")
        if len(labels) > max(_FEW_LABELS, _MOST_LABELS * len(rows)):
            found = f"--target {columns.target!r} has {len(labels)} different values in {len(rows)} rows"
            raise ConfigError(f"{found}, too many for labels; use --kind generation, or another column")
        task = replace(task, labels=tuple(labels))
    # What is written is what will be read.
    return parse_task(task.to_json())
