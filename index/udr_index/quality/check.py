"""Checking a collection: each task and each split by itself, then each split against those before it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from udr.errors import DataError
from udr.models import BASE_ENCODER, Encoder, SentenceEncoder, TextLM, load_text_lm
from udr.types import Json
from udr_index.quality.config import NEAR, CheckConfig
from udr_index.quality.coverage import empty_fields, odd_ids, similar_labels, skewed_labels, unread_fields
from udr_index.quality.duplicates import copies_within, leaks
from udr_index.quality.findings import Finding, Kind, Severity
from udr_index.quality.long_rows import incoherent, load_window, too_long
from udr_index.quality.near_duplicates import EncodedSplit, cut_by_encoder, encode, near_duplicates, near_leaks
from udr_index.quality.splits import SPLITS, Split, open_tasks, read_splits

MAX_ERRORS = 20
"""How many rows of a split that cannot be read are listed one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The number of tasks, unreadable ones included, of rows read, and the findings by task, split and kind."""

    num_tasks: int
    num_rows: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """The number of errors."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """The number of warnings."""
        return len(self.findings) - self.errors

    def passed(self, strict: bool = False) -> bool:
        """Return whether there is no error and, if ``strict``, no warning."""
        return not (self.findings if strict else self.errors)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of ``udr tasks check --json``, without ``passed``."""
        return {
            "tasks": self.num_tasks,
            "rows": self.num_rows,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.to_json() for finding in self.findings],
        }


def check(config: CheckConfig, encoder: Encoder | None = None, text_lm: TextLM | None = None) -> Report:
    """Check the rows of every task. What cannot be read is a finding.

    Args:
        config: what to check.
        encoder: a loaded encoder, in place of ``config.model``.
        text_lm: a loaded language model, in place of ``config.text_lm``.

    Raises:
        UnknownTaskError: a named task is not in the collection.
        ModelError: the encoder, the tokenizer or the language model cannot be loaded.
        ConfigError: there is no task at all, or the size of the window is not known.
    """
    tasks = open_tasks(config.tasks, config.names)
    window = load_window(config.lm, config.window) if config.lm is not None else None
    if encoder is None and (config.model is not None or config.near is not None):
        encoder = SentenceEncoder.load(config.model or BASE_ENCODER, device=config.device)
    if text_lm is None and config.text_lm is not None:
        text_lm = load_text_lm(config.text_lm, config.device)
    near = NEAR if config.near is None else config.near
    findings = [_unreadable(name, None, error) for name, error in tasks.errors.items()]
    num_rows = 0
    for folder in tasks.folders.values():
        splits, encoded = list[Split](), list[EncodedSplit]()
        for name, rows, errors in read_splits(folder):
            findings += _unreadable_rows(folder.task.name, name, errors)
            if not rows:
                continue
            num_rows += len(rows)
            splits.append(split := Split(folder.task, name, rows))
            findings += [*empty_fields(split), *unread_fields(split), *odd_ids(split), *copies_within(split)]
            if name == "train":
                findings += [*similar_labels(split), *skewed_labels(split, config.skew)]
            if window is not None:
                findings += too_long(split, window)
            if text_lm is not None:
                findings += incoherent(split, text_lm)
            for earlier in splits[:-1]:
                findings += leaks(split, earlier)
            if encoder is not None:
                encoded.append(vectors := encode(split, encoder))
                findings += [*cut_by_encoder(vectors), *near_duplicates(vectors, near)]
                for before in encoded[:-1]:
                    findings += near_leaks(vectors, before, near)
    names = {*tasks.folders, *tasks.errors}
    return Report(num_tasks=len(names), num_rows=num_rows, findings=tuple(sorted(findings, key=_order)))


def _unreadable(task: str, split: str | None, error: DataError) -> Finding:
    return Finding(task=task, split=split, kind=Kind.UNREADABLE, message=str(error).replace("\n", " "))


def _unreadable_rows(task: str, split: str, errors: Sequence[DataError]) -> Iterator[Finding]:
    for error in errors[:MAX_ERRORS]:
        yield _unreadable(task, split, error)
    if (more := len(errors) - MAX_ERRORS) > 0:
        message = f"{more} more rows cannot be read; correct these {MAX_ERRORS} first"
        yield Finding(task=task, split=split, kind=Kind.UNREADABLE, message=message, count=more)


def _order(finding: Finding) -> tuple[str, int, int, int]:
    splits = (None, *SPLITS)
    kind = list(Kind).index(finding.kind)
    return finding.task, splits.index(finding.split), kind, splits.index(finding.against)
