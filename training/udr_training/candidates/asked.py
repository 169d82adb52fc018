"""Queries that prompts of real traffic asked, with scores of demonstrations: the file of ``udr feedback import``."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from udr.data import Collection, Keys, Task, check_input, jsonl_records
from udr.errors import ConfigError, DataError, InvalidInputError, brief
from udr.files import write_atomically
from udr.types import Row

_KEYS = ("task", "id", "input", "scores", "others")


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query that is not a row of the pool, and what its prompts say of demonstrations.

    Attributes:
        query: its id and input; its target is not known, and empty.
        scores: of the demonstrations that were shown for it, by id; higher is better.
        others: the score of every other demonstration.
    """

    query: Row
    scores: Mapping[str, float]
    others: float

    def score(self, demonstration: str) -> float:
        """Return the score of a demonstration."""
        return self.scores.get(demonstration, self.others)


def write_asked(path: Path, asked: Iterable[tuple[str, AskedQuery]]) -> None:
    """Write queries, each with the name of its task, to a JSONL file."""

    def write(stream: BinaryIO) -> None:
        for task, item in asked:
            values = (task, item.query.id, dict(item.query.input), dict(item.scores), item.others)
            line = json.dumps(dict(zip(_KEYS, values, strict=True)), ensure_ascii=False)
            stream.write(line.encode() + b"\n")

    write_atomically(path, write)


def read_asked(path: Path, collection: Collection) -> dict[str, tuple[AskedQuery, ...]]:
    """Return the queries of each task of a collection; those of other tasks are left out.

    Raises:
        ConfigError: there is no such file, or a task has no query.
        DataError: a line is invalid, or does not fit its task.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; feedback.kind 'outcomes' needs --feedback FILE, which udr feedback import writes"
        )
    asked: dict[str, dict[str, AskedQuery]] = {name: {} for name in collection.tasks}
    for keys in lines(path):
        keys.refuse_unknown(_KEYS)
        name = keys.text("task")
        if name in asked:
            item = _asked(keys, collection.tasks[name].task)
            if item.query.id in asked[name]:
                raise keys.error("id", f"{item.query.id!r} was used before")
            asked[name][item.query.id] = item
    if lacking := [name for name, own in asked.items() if not own]:
        raise ConfigError(f"{path} has no query of {', '.join(lacking)}; name the tasks that it has with --tasks")
    return {name: tuple(own.values()) for name, own in asked.items()}


def lines(path: Path) -> Iterator[Keys]:
    """Yield the objects of a JSONL file; ``DataError`` if a line holds none."""
    for line, values in jsonl_records(path):
        if isinstance(values, DataError):
            raise values
        yield Keys(values, path, line)


def number(keys: Keys, key: str, value: object) -> float:
    """Return a score; ``DataError`` unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise keys.error(key, f"must be a number from 0 to 1, found {brief(value)}")
    return float(value)


def mapping(keys: Keys, key: str) -> Mapping[str, object]:
    """Return a required object; ``DataError`` if it is none."""
    value = keys.values.get(key)
    if not isinstance(value, dict):
        raise keys.error(key, f"must be an object, found {brief(value)}")
    return value


def _asked(keys: Keys, task: Task) -> AskedQuery:
    try:
        input = check_input(task, mapping(keys, "input"))  # type: ignore[arg-type]
    except InvalidInputError as error:
        raise keys.error("input", str(error)) from error
    scores = {id: number(keys, f"scores.{id}", value) for id, value in mapping(keys, "scores").items()}
    others = number(keys, "others", keys.values.get("others"))
    return AskedQuery(Row(id=keys.text("id"), input=input, target=""), scores, others)
