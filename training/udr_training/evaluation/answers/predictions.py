"""The directory of an evaluation: its settings, and the answers so far, from which it resumes."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from udr.errors import ArtifactError, ConfigError
from udr.files import canonical_json, write_atomically
from udr.types import Json, Row
from udr_training.answering import Parsing
from udr_training.evaluation.retrievers import BUILT_IN, Shown
from udr_training.run_folder import MARKS, upload_copy, url_of

_LOG = logging.getLogger(__name__)

_FORMAT = 1
# What a kill during a claim leaves, and what the copy of a remote one has.
_NOTHING = {".config.json.tmp", *MARKS}
# Which test rows were asked for: each answer has its own row's hash.
_ASKED_FOR = ("limit", "test_rows")

NO_RETRIEVER = "none"
"""The retriever's name for prompts without demonstrations, whose answers all retrievers share."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The language model's answer to a test row.

    Attributes:
        query: the row's id.
        demonstrations: the ids of those that the prompt showed, in its order.
        text: the answer that is judged.
        written: what a model that writes its answers wrote; None for a model that chooses among options.
        parsing: how that was read as the answer; None likewise.
        row: a hash of the row.
    """

    query: str
    demonstrations: tuple[str, ...]
    text: str
    written: str | None = None
    parsing: Parsing | None = None
    row: str | None = None

    def to_json(self) -> dict[str, Json]:
        """Return its JSON; keys that are None are omitted."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Answer":
        """Return what ``to_json`` described."""
        parsing = value.get("parsing")
        read = {**value, "demonstrations": tuple(value["demonstrations"]), "parsing": parsing and Parsing(parsing)}
        return Answer(**read)


Answering = Callable[[Sequence[Row], Sequence[Shown], int, Callable[[int], None]], list[Answer]]
"""Returns the answers to queries of a task, each after at most so many of its demonstrations.

The last argument is called with the number of answers, now and then.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """The answers of one task, one retriever, by its full name, and one number of demonstrations.

    Attributes:
        made_from: everything that the answers depend on; for information, ``limit`` and ``test_rows``, too.
    """

    task: str
    retriever: str
    shots: int
    made_from: Mapping[str, Json]

    @property
    def file(self) -> str:
        """The name of the file in the task's directory: readable, and different for every retriever."""
        name = self.retriever
        if name not in (*BUILT_IN, NO_RETRIEVER):
            readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-40:]
            name = f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return f"{name}.{self.shots}-shot.jsonl"


class AnswerStore:
    """Stores answers in an evaluation's directory, or in memory if it is None.

    Files are replaced as a whole, so a kill leaves none incomplete.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[bytes, tuple[Answer, ...]] = {}

    def read(self, cell: Cell) -> tuple[Answer, ...]:
        """Return a cell's answers in the order written, of whatever rows; none if they were made from something else.

        Raises:
            ArtifactError: the file is not from an evaluation.
        """
        if self._folder is None:
            return self._memory.get(canonical_json(asdict(cell)), ())
        path = _path(self._folder, cell)
        if not path.exists():
            return ()
        try:
            header, *lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            made_from = dict(header["made_from"])
            answers = tuple(map(Answer.from_json, lines))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: contains no answers of an evaluation; remove it: {error}") from error
        depends = [name for name in cell.made_from if name not in _ASKED_FOR]
        changed = [name for name in depends if made_from.get(name) != cell.made_from[name]]
        if changed:
            _LOG.warning("%s: changed since: %s; answering again", path, ", ".join(changed))
            return ()
        return answers

    def write(self, cell: Cell, answers: Sequence[Answer]) -> None:
        """Replace a cell's answers; they are on disk when this returns, and on the store if the evaluation is there."""
        if self._folder is None:
            self._memory[canonical_json(asdict(cell))] = tuple(answers)
            return
        path = _path(self._folder, cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [asdict(cell), *(answer.to_json() for answer in answers)]
        write_atomically(path, b"".join(canonical_json(line) + b"\n" for line in lines))
        upload_copy(self._folder)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / "predictions" / cell.task / cell.file


def claim(folder: Path, settings: Mapping[str, Json]) -> None:
    """Make a directory this evaluation's, or check that it is.

    Retrievers, tasks and numbers of demonstrations may change from call to call; each has its own answers. So may the
    number of test rows.

    Args:
        folder: the directory; created if missing.
        settings: what all answers in it have in common.

    Raises:
        ConfigError: the directory contains something else, or an evaluation with other settings.
    """
    path = folder / "config.json"
    settings = {"format": _FORMAT, **settings}
    check_claim(folder, settings)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, canonical_json(settings, indent=1))


def check_claim(folder: Path, settings: Mapping[str, Json]) -> None:
    """Check that a directory is free, or that its evaluation agrees with some of its settings; nothing is written.

    Raises:
        ConfigError: the directory contains something else, or an evaluation with other settings.
    """
    path = folder / "config.json"
    place = url_of(folder) or folder
    if not path.exists():
        if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _NOTHING):
            raise ConfigError(f"{place} contains something other than an evaluation; give another --output")
        return
    try:
        existing = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not from an evaluation; give another --output: {error}") from error
    changes = [
        f"{name} = {json.dumps(existing.get(name))} here, {json.dumps(settings.get(name))} requested"
        for name in settings
        if existing.get(name) != settings.get(name)
    ]
    if changes:
        raise ConfigError(f"{place} contains another evaluation ({'; '.join(changes)}); give another --output")
