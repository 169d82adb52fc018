"""Rows and reports that the tests of this folder share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes import NOTES
from udr.data import Task, parse_task
from udr.types import Json, Row
from udr_index.quality import CheckConfig, Report, Split, check

TASK = parse_task(NOTES)


def notes(*texts: str, target: str = "glad", first: int = 0) -> list[Mapping[str, Json]]:
    return [{"id": f"n{n}", "input": {"text": text}, "target": target} for n, text in enumerate(texts, first)]


def report(root: Path, **changes: Any) -> Report:
    encoder = changes.pop("encoder", None)
    return check(CheckConfig(tasks=root, **{"skew": 0, **changes}), encoder)


def make_split(*rows: str | tuple[str, str], name: str = "train", task: Task = TASK) -> Split:
    """Return a split of texts, or of texts and targets, with the ids NAME-0, NAME-1, ..."""
    pairs = [(row, "glad") if isinstance(row, str) else row for row in rows]
    numbered = (Row(id=f"{name}-{n}", input={"text": text}, target=target) for n, (text, target) in enumerate(pairs))
    return Split(task, name, list(numbered))
