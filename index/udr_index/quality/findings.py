"""The findings of a check, each printable as one line."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from udr.types import Json

_MAX_GROUPS = 3
"""Groups of rows, and rows of a group, that a line names; the others are counted."""


class Severity(StrEnum):
    """An error makes rows unusable or measurements false; a warning may be intended, unless ``--strict``."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """The kinds of findings, in the order in which they are listed."""

    UNREADABLE = "unreadable"
    EMPTY_INPUT = "empty_input"
    EMPTY_FIELD = "empty_field"
    UNREAD_FIELD = "unread_field"
    DUPLICATE = "duplicate"
    CONFLICTING_TARGETS = "conflicting_targets"
    SEVERAL_ANSWERS = "several_answers"
    OTHER_CHOICES = "other_choices"
    NEAR_DUPLICATE = "near_duplicate"
    MISSING_LABEL = "missing_label"
    LABEL_SKEW = "label_skew"
    TOO_LONG = "too_long"
    CHAOTIC = "chaotic"
    AGGREGATED = "aggregated"
    CUT_BY_ENCODER = "cut_by_encoder"
    SIMILAR_LABELS = "similar_labels"
    ODD_ID = "odd_id"
    LEAK = "leak"
    NEAR_LEAK = "near_leak"


_WARNINGS = (
    "empty_field unread_field conflicting_targets several_answers other_choices near_duplicate missing_label "
    "label_skew chaotic aggregated cut_by_encoder similar_labels odd_id near_leak"
).split()
_NEAR = {Kind.NEAR_DUPLICATE, Kind.NEAR_LEAK}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem with the rows of a task.

    Attributes:
        task: the task's name, or its folder's if ``task.toml`` cannot be read.
        split: ``train``, ``validation`` or ``test``; None for the task itself.
        kind: the kind of problem.
        message: the problem and what to do, in one line.
        count: the number of rows, or of labels; 1 if something cannot be read.
        groups: the ids of the rows: one alone, or each with its copies (keep the first) or near rows.
        against: the split of each group's ids after the first, if it is another split.
        labels: the labels in question.
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
        """The severity of its kind."""
        return Severity.WARNING if self.kind in _WARNINGS else Severity.ERROR

    def __str__(self) -> str:
        rows = self.task if self.split is None else f"{self.task}/{self.split}"
        sign = " ~ " if self.kind in _NEAR else " = "
        groups = [sign.join(_shorten(_printable(group))) for group in self.groups]
        listed = f": {', '.join(_shorten(groups))}" if groups else ""
        return f"{rows}: {self.severity}: {self.kind}: {self.message}{listed}"

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of ``udr tasks check --json``, with every group."""
        return {"task": self.task, "split": self.split, "kind": self.kind, "severity": self.severity} | asdict(self)


def _shorten(items: Sequence[str]) -> list[str]:
    rest = len(items) - _MAX_GROUPS
    return [*items[:_MAX_GROUPS], f"… ({rest} more)"] if rest > 0 else list(items)


def _printable(ids: Sequence[str]) -> list[str]:
    # An id may be any text; one with line breaks is shown escaped.
    return [id if id.isprintable() else repr(id) for id in ids]
