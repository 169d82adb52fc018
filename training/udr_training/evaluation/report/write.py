"""Writes the report of an evaluation: a table for the terminal, Markdown, JSON and a page."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from udr.data import Collection
from udr.files import canonical_json, write_atomically
from udr.types import Json
from udr_training.evaluation.intervals import Estimate
from udr_training.evaluation.report.embedding_map import label_map
from udr_training.evaluation.report.format import counted, facts, interval, points, signed, summary, title, with_shots
from udr_training.evaluation.report.metrics_log import histories
from udr_training.evaluation.report.page import page
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.verdict import verdict


def write_report(folder: Path, evaluation: Evaluation, collection: Collection) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html``, for which runs and encoders are loaded."""
    write_atomically(folder / "report.json", canonical_json(report_json(evaluation), indent=1) + b"\n")
    write_atomically(folder / "report.md", markdown(evaluation).encode())
    html = page(evaluation, histories(evaluation.labels), label_map(evaluation, collection))
    write_atomically(folder / "report.html", html.encode())


def report_json(evaluation: Evaluation) -> dict[str, Json]:
    """Return the verdict, the results and what was run."""
    return {"format": 1, "verdict": verdict(evaluation).to_json(), **evaluation.to_json()}


def table(evaluation: Evaluation) -> str:
    """Return the values as plain text: a row per task, a column per retriever, the means of several tasks, gains."""
    names, tables = list(evaluation.labels), []
    several = len(evaluation.tasks) > 1
    for shots in evaluation.shots:
        rows = [["task", *evaluation.labels.values()]]
        for task in evaluation.tasks:
            values = [evaluation.value(name, shots, [task]) for name in names]
            rows.append([task, *(points(value.value) if several else _value(value) for value in values)])
        if several:
            rows.append(["mean", *(_value(evaluation.value(name, shots)) for name in names)])
        if evaluation.others:
            heading = f"gain over {evaluation.labels[evaluation.baseline]}"
            rows.append([heading, *_gains(evaluation, shots, evaluation.tasks)])
        if shots in evaluation.helped:
            rows.append(["gain over no demonstration", *_help(evaluation, shots, evaluation.tasks)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        tables.append("\n".join([f"{with_shots(shots)}:", *lines] if len(evaluation.shots) > 1 else lines))
    return "\n\n".join(tables)


def markdown(evaluation: Evaluation) -> str:
    """Return the report as Markdown: values and gains over all tasks, by family and by task."""
    parts = [f"# {title(evaluation)}", summary(evaluation)]
    head = ["", *evaluation.labels.values()]
    for shots in evaluation.shots:
        parts.append(f"## With {with_shots(shots)}")
        values = [
            [group, *(_value(evaluation.value(name, shots, tasks)) for name in evaluation.labels)]
            for group, tasks in _groups(evaluation)
        ]
        parts += ["### Points, with 95 % intervals", _piped([head, *values])]
        if evaluation.others:
            gains = [[group, *_gains(evaluation, shots, tasks)] for group, tasks in _groups(evaluation)]
            parts += [f"### Gains over {_plain(evaluation.labels[evaluation.baseline])}", _piped([head, *gains])]
        if shots in evaluation.helped:
            helped = [[group, *_help(evaluation, shots, tasks)] for group, tasks in _groups(evaluation)]
            parts += ["### Gains over no demonstration", _piped([head, *helped])]
    run = "\n".join(f"- {name}: {_plain(text)}" for name, text in facts(evaluation))
    return "\n\n".join([*parts, "## What was run", run]) + "\n"


def _groups(evaluation: Evaluation) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the rows of a table: all tasks, and each family before its tasks."""
    if len(evaluation.tasks) > 1:
        yield f"mean of {counted(len(evaluation.tasks), 'task')}", evaluation.tasks
    for family, tasks in evaluation.families.items():
        if len(evaluation.families) > 1:
            yield f"family {family}", tasks
        yield from ((task, [task]) for task in tasks)


def _gains(evaluation: Evaluation, shots: int, tasks: Sequence[str]) -> list[str]:
    """Return the cells of a row of gains; the baseline's is empty."""
    others = evaluation.others
    return [_gain(evaluation.gain(name, shots, tasks)) if name in others else "" for name in evaluation.labels]


def _help(evaluation: Evaluation, shots: int, tasks: Sequence[str]) -> list[str]:
    return [_gain(evaluation.help(name, shots, tasks)) for name in evaluation.labels]


def _gain(estimate: Estimate) -> str:
    return f"{signed(estimate.value)} {interval(estimate, gain=True)}"


def _value(estimate: Estimate) -> str:
    return f"{points(estimate.value)} {interval(estimate)}"


def _piped(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[_plain(cell) for cell in row] for row in rows]
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ruler, *body])


def _plain(text: str) -> str:
    """Return a text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*<|])", r"\\\1", text)
