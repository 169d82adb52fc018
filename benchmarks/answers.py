"""The answers that ``udr evaluate`` keeps, as benchmarks read them: whole ones, to this collection's test rows."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_calls import SHOTS

from udr.data import TaskFolder, rows_digest, sample
from udr.types import Row
from udr_training.evaluation import RANDOM, Answer, Estimate, task_estimate


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers with one retriever to one task.

    Attributes:
        path: their file.
        retriever: its name, as ``udr evaluate`` takes it.
        made_from: everything that they depend on.
        answers: by test row.
    """

    path: Path
    retriever: str
    made_from: Mapping[str, Any]
    answers: Sequence[Answer]

    @property
    def nearest_last(self) -> bool:
        """Whether its prompts end with the nearest demonstration."""
        return self.retriever != RANDOM and "order=" not in self.retriever

    def queries(self, folder: TaskFolder) -> list[Row]:
        """Return the test rows that were asked about."""
        return sample(folder.rows("test"), self.made_from["limit"], self.made_from["seed"])


@dataclass(frozen=True, slots=True)
class Labelled:
    """The gold label of a query, the labels shown, in the prompt's order, and the answer; ``prompt`` tells it apart."""

    gold: str
    shown: tuple[str, ...]
    text: str
    prompt: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether the answer is the gold label."""
        return self.text == self.gold


def of_task(evaluation: Path, folder: TaskFolder, retrievers: Sequence[str] = ()) -> list[Predictions]:
    """Return the answers of an evaluation to a task, by file name; what a killed one has left is not among them.

    Args:
        evaluation: the output of ``udr evaluate``.
        folder: the task.
        retrievers: those in question, all by default; one in the folder that has the evaluation may be named relative
            to that folder. Says which of them have no whole answers, and exits if none has.
    """
    root = f"{evaluation.resolve().parent}/"
    wanted, found = [name.removeprefix(root) for name in retrievers], dict[str, Predictions]()
    for path in sorted((evaluation / "predictions" / folder.task.name).glob(f"*.{SHOTS}-shot.jsonl")):
        each = read(path)
        name = each.retriever.removeprefix(root)
        if wanted and name not in wanted:
            continue
        if len(each.answers) < (rows := len(each.queries(folder))):
            print(f"{path}: has {len(each.answers)} of {rows} answers, so it is left out", file=sys.stderr)
            continue
        found[name] = each
    missing = ", ".join(name for name in wanted if name not in found) or "any retriever"
    message = f"{evaluation}: has no whole answers to {folder.task.name} with {missing}"
    if not found:
        raise SystemExit(f"{message}; answer by udr evaluate first")
    if len(found) < len(wanted):
        print(message, file=sys.stderr)
    return list(found.values())


def read(path: Path) -> Predictions:
    """Return the answers of a file."""
    header, *lines = map(json.loads, path.read_bytes().splitlines())
    return Predictions(path, header["retriever"], header["made_from"], tuple(map(Answer.from_json, lines)))


def labelled(folder: TaskFolder, predictions: Predictions) -> list[Labelled]:
    """Return what each prompt showed and what was answered, on a task with labels."""
    target = {split: {row.id: row.target for row in folder.rows(split)} for split in ("train", "test")}
    return [
        Labelled(
            target["test"][each.query],
            tuple(target["train"][id] for id in each.demonstrations),
            each.text,
            (each.query, *each.demonstrations),
        )
        for each in predictions.answers
    ]


def estimate_of(folder: TaskFolder, predictions: Predictions) -> Estimate:
    """Return a task's value from answers; exit if they are to other rows than the task has now."""
    queries, made_from = predictions.queries(folder), predictions.made_from
    asked = [answer.query for answer in predictions.answers]
    if made_from["test_rows"] != rows_digest(queries) or asked != [row.id for row in queries]:
        raise SystemExit(
            f"{predictions.path}: these answers are not to this task's test rows; are they of another collection?"
        )
    return task_estimate(folder.task, queries, [answer.text for answer in predictions.answers], made_from["seed"])


def shown(difference: Estimate) -> str:
    """Return a difference with its interval."""
    low, high = difference.interval
    return f"{difference.value:+.1f} ({low:+.1f} to {high:+.1f})"
