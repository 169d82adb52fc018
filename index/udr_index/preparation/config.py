"""The configuration of ``udr init``, and names that a task may have."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.data import Kind, is_name
from udr.errors import ConfigError

KINDS: Mapping[str, Kind] = {
    "classification": Kind.CLASSIFICATION,
    "generation": Kind.GENERATION,
    "choices": Kind.MULTIPLE_CHOICE,
    "multiple_choice": Kind.MULTIPLE_CHOICE,
}
"""The kinds of tasks by what ``--kind`` takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InitConfig:
    """What to make of a table.

    Attributes:
        table: the file.
        out: the folder of tasks; the task is ``out/<family>/<name>/``.
        inputs: the columns that the model reads.
        target: the column of the right answer.
        kind: how the task is answered.
        id: the column of the rows' ids; None takes their line numbers.
        choices: for multiple choice, the columns of the choices, or the one column that lists them.
        name: the task's name; None makes one of the file's name.
        family: the family's name; None makes one of the file's name.
        test_rows: how many rows to hold out; None is a fifth, at most 500.
        seed: selects the rows to hold out.
        model: an encoder that finds near-duplicates, besides those that share most words.
        device: where to run it; None takes the best available.
        merge_labels: make labels that differ only in case, spaces or Unicode form one, the most frequent.
        replace: make a task that exists anew.

    Raises:
        ConfigError: a name is invalid, or an option does not fit the kind.
    """

    table: Path
    out: Path
    inputs: tuple[str, ...]
    target: str
    kind: Kind = Kind.CLASSIFICATION
    id: str | None = None
    choices: tuple[str, ...] = ()
    name: str | None = None
    family: str | None = None
    test_rows: int | None = None
    seed: int = 0
    model: str | None = None
    device: str | None = None
    merge_labels: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        for flag, name in (("--name", self.name), ("--family", self.family)):
            if name is not None and not is_name(name):
                raise ConfigError(f"{flag} may contain only a-z, 0-9, _ and -; found {name!r}{_suggestion(name)}")
        if not usable_name(self.table.stem) and None in (self.name, self.family):
            message = "has no letter of a-z and no digit in its name; name the task with --name and --family"
            raise ConfigError(f"{self.table}: {message}")
        if (self.kind is Kind.MULTIPLE_CHOICE) != bool(self.choices):
            needed = "needs" if self.kind is Kind.MULTIPLE_CHOICE else "is the only one with"
            raise ConfigError(f"--kind choices {needed} --choices, the columns of the choices; found {self.kind.value}")
        if self.merge_labels and self.kind is not Kind.CLASSIFICATION:
            raise ConfigError(f"--merge-labels is only for --kind classification; found {self.kind.value}")

    @property
    def folder(self) -> Path:
        """The task's folder."""
        own = usable_name(self.table.stem)
        return self.out / (self.family or own) / (self.name or own)


def usable_name(text: str) -> str:
    """Return a text as a name of a task: small letters of a-z, digits, ``_`` and ``-``; empty if it has none."""
    # Letters with marks lose them.
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9_]+", "-", plain).strip("-_")


def _suggestion(name: str) -> str:
    usable = usable_name(name)
    return f"; for example {usable}" if usable else ""
