"""What a check finds: frozen values, each fit to be shown to a user as one line.

An error is certainly a mistake: a row that cannot be used, or that makes a measurement false. A warning is a matter
of judgement, and may be meant; ``--strict`` takes it for an error. ``SEVERITIES`` says which kind is which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from udr.types import Json

SHOWN = 3
"""Groups of rows that a line names; the others are counted."""


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """What is found; in the order in which findings are listed."""

    UNREADABLE = "unreadable"
    EMPTY_INPUT = "empty_input"
    EMPTY_FIELD = "empty_field"
    DUPLICATE = "duplicate"
    CONFLICTING_TARGETS = "conflicting_targets"
    SEVERAL_ANSWERS = "several_answers"
    OTHER_CHOICES = "other_choices"
    NEAR_DUPLICATE = "near_duplicate"
    MISSING_LABEL = "missing_label"
    LABEL_SKEW = "label_skew"
    TOO_LONG = "too_long"
    LEAK = "leak"
    NEAR_LEAK = "near_leak"


_WARNINGS = {
    Kind.EMPTY_FIELD,
    Kind.SEVERAL_ANSWERS,
    Kind.OTHER_CHOICES,
    Kind.NEAR_DUPLICATE,
    Kind.MISSING_LABEL,
    Kind.LABEL_SKEW,
    Kind.NEAR_LEAK,
}
_NEAR = {Kind.NEAR_DUPLICATE, Kind.NEAR_LEAK}
SEVERITIES = {kind: Severity.WARNING if kind in _WARNINGS else Severity.ERROR for kind in Kind}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it should be with the rows of a task.

    Attributes:
        task: the task's name; the name of its folder where ``task.toml`` cannot be read.
        split: ``train``, ``validation`` or ``test``; None where it is the task itself.
        kind: what is found.
        message: what it is and what to do, in one line.
        count: how many rows it is about, or labels; 1 where something cannot be read.
        groups: the ids of these rows: one alone, or each together with those that it is a copy of or near to; of
            copies within a split, the first is the one to keep.
        against: the split that the later ids of each group belong to, where it is another one.
        labels: the labels that it is about.
    """

    task: str
    split: str | None
    kind: Kind
    message: str
    count: int = 1
    groups: tuple[tuple[str, ...], ...] = ()
    against: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """How bad it is; decided by its kind."""
        return SEVERITIES[self.kind]

    def __str__(self) -> str:
        place = self.task if self.split is None else f"{self.task}/{self.split}"
        sign = " ~ " if self.kind in _NEAR else " = "
        named = f": {_named(self.groups, sign)}" if self.groups else ""
        return f"{place}: {self.severity}: {self.kind}: {self.message}{named}"

    def to_json(self) -> dict[str, Json]:
        """Return it as ``udr tasks check --json`` shows it, with every group."""
        return {
            "task": self.task,
            "split": self.split,
            "kind": self.kind.value,
            "severity": self.severity.value,
            "message": self.message,
            "count": self.count,
            "groups": [list(group) for group in self.groups],
            "against": self.against,
            "labels": list(self.labels),
        }


def _named(groups: Sequence[Sequence[str]], sign: str) -> str:
    shown = ", ".join(sign.join(_ids(group)) for group in groups[:SHOWN])
    return shown if len(groups) <= SHOWN else f"{shown}, … ({len(groups) - SHOWN} more)"


def _ids(group: Sequence[str]) -> list[str]:
    # An id may be any text; one that would break the line is shown with its escapes.
    ids = [id if id.isprintable() else repr(id) for id in group[:SHOWN]]
    return ids if len(group) <= SHOWN else [*ids, f"… ({len(group) - SHOWN} more)"]
