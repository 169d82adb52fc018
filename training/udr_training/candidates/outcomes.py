"""Outcomes of prompts as feedback: from what ``udr index outcomes`` writes to queries with scored demonstrations."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.data import Collection, Keys, TaskFolder, check_input, input_copy_text
from udr.errors import ConfigError, InvalidInputError
from udr.files import refuse_existing
from udr.store.usage import estimates
from udr.types import Fields, Row
from udr_training.candidates.asked import AskedQuery, lines, mapping, number, write_asked

_KEYS = ("prompt_id", "task", "seconds", "input", "demonstrations", "score", "target")


@dataclass(frozen=True, slots=True)
class ImportedTask:
    """What was imported of a task's outcomes.

    Attributes:
        outcomes: all of them.
        queries: those that can be learned from.
        mean: the score of a demonstration that was not shown.
        without_input: outcomes whose prompt's input was not kept.
        unfit: outcomes whose input does not fit the task.
        gone: demonstrations that were shown, and are not in the task's pool.
        unknown: queries whose prompts showed none that is.
        even: queries whose scores do not differ from the mean.
    """

    outcomes: int
    queries: int
    mean: float
    without_input: int
    unfit: int
    gone: int
    unknown: int
    even: int

    @property
    def left_out(self) -> str:
        """What cannot be learned from, in words; empty if there is nothing."""
        parts = (
            (self.without_input, "outcomes without the input of their prompt"),
            (self.unfit, "outcomes with an input that does not fit the task"),
            (self.gone, "shown demonstrations that are not in the pool"),
            (self.unknown, "queries that were shown no row of the pool"),
            (self.even, "queries with the mean score alone"),
        )
        return ", ".join(f"{what} ({count})" for count, what in parts if count)


@dataclass(frozen=True, slots=True)
class _Outcome:
    prompt_id: str
    input: Mapping[str, object] | None
    demonstrations: tuple[str, ...]
    score: float


def import_outcomes(path: Path, collection: Collection, out: Path) -> tuple[dict[str, ImportedTask], int]:
    """Score the demonstrations that prompts showed by the prompts' outcomes, and write the queries to a file.

    A demonstration's score for a query is the mean of the outcomes of the prompts with this query, or a copy of it,
    that showed it, shrunk towards the mean of the task; see ``udr.store.usage.estimates``. All others have that mean.

    Args:
        path: outcomes as JSONL.
        collection: the tasks; outcomes of others are left out.
        out: the file to write.

    Returns:
        What was imported, by task, and the number of outcomes of other tasks.

    Raises:
        ConfigError: the file to write exists, or no outcome can be learned from.
        DataError: a line is invalid.
    """
    refuse_existing(out)
    told: defaultdict[str, list[_Outcome]] = defaultdict(list)
    for keys in lines(path):
        told[keys.text("task")].append(_outcome(keys))
    scored = {name: _scored(folder, told[name]) for name, folder in collection.tasks.items() if name in told}
    imported = {name: own for name, (_, own) in scored.items()}
    if not any(own.queries for own in imported.values()):
        reasons = "; ".join(f"task {name}: {own.left_out}" for name, own in imported.items())
        raise ConfigError(
            f"{path}: no outcome can be learned from: {reasons or f'none is of a task of {collection.root}'}"
        )
    write_asked(out, [(name, item) for name, (asked, _) in scored.items() for item in asked])
    return imported, sum(len(own) for name, own in told.items() if name not in scored)


def _outcome(keys: Keys) -> _Outcome:
    keys.refuse_unknown(_KEYS)
    input = None if keys.values.get("input") is None else mapping(keys, "input")
    score = number(keys, "score", keys.values.get("score"))
    return _Outcome(keys.text("prompt_id"), input, keys.texts("demonstrations"), score)


def _scored(folder: TaskFolder, told: Sequence[_Outcome]) -> tuple[list[AskedQuery], ImportedTask]:
    pool, gone = {row.id for row in folder.pool().rows}, set[str]()
    inputs: dict[str, tuple[str, Fields]] = {}
    outcomes: list[tuple[str | None, Sequence[str], float]] = []
    lost = Counter[str]()
    for outcome in told:
        key = None
        try:
            if outcome.input is not None:
                input = check_input(folder.task, outcome.input)  # type: ignore[arg-type]
                key = input_copy_text(folder.task, input)
                inputs.setdefault(key, (outcome.prompt_id, input))
            else:
                lost["without_input"] += 1
        except InvalidInputError:
            lost["unfit"] += 1
        gone.update(id for id in outcome.demonstrations if id not in pool)
        # Without a query an outcome still counts for the mean.
        shown = () if key is None else [id for id in outcome.demonstrations if id in pool]
        outcomes.append((key, shown, outcome.score))
    mean, shrunk = estimates(outcomes)
    scores: defaultdict[str | None, dict[str, float]] = defaultdict(dict)
    for (key, id), estimate in shrunk.items():
        scores[key][id] = estimate.score
    asked = []
    for key, (prompt_id, input) in inputs.items():
        if not scores[key]:
            lost["unknown"] += 1
        elif all(math.isclose(score, mean, abs_tol=1e-9) for score in scores[key].values()):
            lost["even"] += 1
        else:
            # A row of the pool may well have the prompt's id: a corrected answer.
            asked.append(AskedQuery(Row(id=f"asked:{prompt_id}", input=input, target=""), scores[key], mean))
    counts = {name: lost[name] for name in ("without_input", "unfit", "unknown", "even")}
    return asked, ImportedTask(len(told), len(asked), mean, gone=len(gone), **counts)
