"""The check of a collection: every task by itself, every split by itself, then each against those before it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from udr.data import TaskFolder
from udr.errors import DataError
from udr.models import DEFAULT_ENCODER, Encoder, SentenceEncoder
from udr.types import Json
from udr_index.quality.config import NEAR, CheckConfig
from udr_index.quality.context_window import Window, load_window, too_long
from udr_index.quality.coverage import empty_fields, skewed_labels
from udr_index.quality.duplicates import copies_within, leaks
from udr_index.quality.findings import Finding, Kind, Severity
from udr_index.quality.near_duplicates import EncodedSplit, encode, near_duplicates, near_leaks
from udr_index.quality.splits import SPLITS, Split, open_tasks, read_split, splits_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        num_tasks: how many tasks were looked at, those that cannot be read included.
        num_rows: how many rows were read.
        findings: by task, split and kind.
    """

    num_tasks: int
    num_rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return len(self.findings) - self.errors

    def passed(self, strict: bool = False) -> bool:
        """Say whether there is no error; with ``strict``, no warning either."""
        return not (self.findings if strict else self.errors)

    def to_json(self) -> dict[str, Json]:
        """Return it as ``udr tasks check --json`` shows it, but for ``passed``."""
        return {
            "tasks": self.num_tasks,
            "rows": self.num_rows,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.to_json() for finding in self.findings],
        }


def check(config: CheckConfig, encoder: Encoder | None = None) -> Report:
    """Look at the rows of every task and return what is wrong. What cannot be read is a finding.

    Args:
        config: what to check.
        encoder: an encoder that is loaded already, in place of ``config.model``.

    Raises:
        UnknownTaskError: a task that was named is not in the collection.
        ModelError: the encoder or the tokenizer cannot be loaded.
        ConfigError: there is no task at all, or nothing tells the window.
    """
    tasks = open_tasks(config.tasks, config.names)
    window = load_window(config.lm, config.window) if config.lm is not None else None
    if encoder is None and (config.model is not None or config.near is not None):
        encoder = SentenceEncoder.load(config.model or DEFAULT_ENCODER, device=config.device)
    near = NEAR if config.near is None else config.near
    findings = [_unreadable(name, None, error) for name, error in tasks.errors.items()]
    num_rows = 0
    for folder in tasks.folders.values():
        one = _TaskCheck(folder, config.skew, near, encoder, window)
        findings += one.findings()
        num_rows += one.num_rows
    names = {*tasks.folders, *tasks.errors}
    return Report(num_tasks=len(names), num_rows=num_rows, findings=tuple(sorted(findings, key=_order)))


@dataclass
class _TaskCheck:
    """The check of one task."""

    folder: TaskFolder
    skew: float
    near: float
    encoder: Encoder | None
    window: Window | None
    num_rows: int = 0
    splits: list[Split] = field(default_factory=list)
    encoded: list[EncodedSplit] = field(default_factory=list)

    def findings(self) -> Iterator[Finding]:
        for name in splits_of(self.folder):
            rows = read_split(self.folder, name)
            if isinstance(rows, DataError):
                yield _unreadable(self.folder.task.name, name, rows)
                continue
            self.num_rows += len(rows)
            split = Split(self.folder.task, name, rows)
            yield from self.within(split)
            yield from self.across(split)
            self.splits.append(split)

    def within(self, split: Split) -> Iterator[Finding]:
        yield from empty_fields(split)
        yield from copies_within(split)
        if split.name == "train":
            yield from skewed_labels(split, self.skew)
        if self.window is not None:
            yield from too_long(split, self.window)

    def across(self, split: Split) -> Iterator[Finding]:
        for earlier in self.splits:
            yield from leaks(split, earlier)
        if self.encoder is not None:
            encoded = encode(split, self.encoder)
            yield from near_duplicates(encoded, self.near)
            for before in self.encoded:
                yield from near_leaks(encoded, before, self.near)
            self.encoded.append(encoded)


def _unreadable(task: str, split: str | None, error: DataError) -> Finding:
    return Finding(task=task, split=split, kind=Kind.UNREADABLE, message=" ".join(str(error).split("\n")))


def _order(finding: Finding) -> tuple[str, int, int, int]:
    splits = ("", *SPLITS)
    return (
        finding.task,
        splits.index(finding.split or ""),
        list(Kind).index(finding.kind),
        splits.index(finding.against or ""),
    )
