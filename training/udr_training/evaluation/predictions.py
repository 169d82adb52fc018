"""The directory of an evaluation: its settings, and the answers so far, from which it resumes."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.errors import ArtifactError, ConfigError
from udr.files import canonical_json, write_atomically
from udr.types import Json
from udr_training.evaluation.retriever_names import BUILT_IN

_LOG = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the language model said to one test row.

    Attributes:
        query: the row's id.
        demonstrations: ids, in the order shown.
        text: the answer.
    """

    query: str
    demonstrations: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Answers that belong together: a task's test rows, one retriever, one number of demonstrations.

    Attributes:
        task: the task's name.
        retriever: the retriever's full name.
        shots: demonstrations a prompt.
        made_from: everything that the answers depend on.
    """

    task: str
    retriever: str
    shots: int
    made_from: Mapping[str, Json]

    @property
    def file(self) -> str:
        """The file's name, below the task's folder: readable, and another for every retriever."""
        name = self.retriever
        if name not in (*BUILT_IN, NO_RETRIEVER):
            readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-40:]
            name = f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return f"{name}.{self.shots}-shot.jsonl"


NO_RETRIEVER = "none"
"""The retriever's name for prompts without demonstrations, whose answers all retrievers share."""


class AnswerStore:
    """Keeps answers, in a folder or in memory. A file is replaced as a whole, so that a kill leaves no half of one.

    Args:
        folder: the evaluation's folder; None keeps them in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, tuple[Answer, ...]] = {}

    def read(self, cell: Cell) -> tuple[Answer, ...]:
        """Return what is kept of a cell, in the order written; nothing where it was made from something else.

        Raises:
            ArtifactError: the file is none of an evaluation.
        """
        if self._folder is None:
            return self._memory.get(_key(cell), ())
        path = self._path(cell)
        if not path.exists():
            return ()
        try:
            header, *lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            made_from = dict(header["made_from"])
            answers = tuple(Answer(line["query"], tuple(line["demonstrations"]), line["text"]) for line in lines)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: contains no answers of an evaluation; remove it: {error}") from error
        changed = [name for name, value in cell.made_from.items() if made_from.get(name) != value]
        if changed:
            _LOG.warning("%s: made from other %s; answering again", path, ", ".join(changed))
            return ()
        return answers

    def write(self, cell: Cell, answers: Sequence[Answer]) -> None:
        """Keep all answers so far of a cell; they are on the disk when this returns."""
        if self._folder is None:
            self._memory[_key(cell)] = tuple(answers)
            return
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        header: dict[str, Json] = {
            "task": cell.task,
            "retriever": cell.retriever,
            "shots": cell.shots,
            "made_from": cell.made_from,
        }
        lines: list[Json] = [
            {"query": answer.query, "demonstrations": answer.demonstrations, "text": answer.text} for answer in answers
        ]
        write_atomically(path, b"".join(canonical_json(line) + b"\n" for line in [header, *lines]))

    def _path(self, cell: Cell) -> Path:
        assert self._folder is not None
        return self._folder / "predictions" / cell.task / cell.file


def _key(cell: Cell) -> str:
    return canonical_json([cell.task, cell.retriever, cell.shots, cell.made_from]).decode()


def claim(folder: Path, settings: Mapping[str, Json]) -> None:
    """Make a folder this evaluation's, or see that it is.

    Retrievers, tasks and numbers of demonstrations may change from call to call: each has answers of its own.

    Args:
        folder: made when it does not exist.
        settings: what all answers in it have in common.

    Raises:
        ConfigError: the folder holds something else, or an evaluation with other settings.
    """
    path = folder / "config.json"
    wanted = {"format": _FORMAT, **settings}
    if not path.exists():
        # What is left of an attempt that was killed while it claimed the folder is nobody's.
        if folder.exists() and (not folder.is_dir() or any(not _is_rest(found) for found in folder.iterdir())):
            raise ConfigError(f"{folder} contains something other than an evaluation; give another --output")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, canonical_json(wanted, indent=1))
        return
    try:
        found = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not from an evaluation; give another --output: {error}") from error
    changes = [
        f"{name} = {json.dumps(found.get(name))} here, {json.dumps(wanted.get(name))} requested"
        for name in dict.fromkeys([*found, *wanted])
        if found.get(name) != wanted.get(name)
    ]
    if changes:
        raise ConfigError(f"{folder} contains another evaluation ({'; '.join(changes)}); give another --output")


def _is_rest(path: Path) -> bool:
    return path.name == ".config.json.tmp"
