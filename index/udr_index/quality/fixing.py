"""Fixing a task's files: rows that are wrong beyond doubt move to ``removed.jsonl``; every other line stays as it is.

    no text in any input field                        removed
    input and target of an earlier row of its split   removed; the first stays
    input of a row of a later split                   removed, so that test rows stay the same

What needs a decision is left: rows that cannot be read, conflicting targets, near-duplicates, labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.data import TaskFolder, rows_and_errors
from udr.errors import DataError
from udr.files import refuse_link, write_atomically
from udr.types import Row
from udr_index.plural import counted
from udr_index.quality.coverage import empty_fields
from udr_index.quality.duplicates import copies_within
from udr_index.quality.findings import Kind
from udr_index.quality.splits import SPLITS, Split

REMOVED = "removed.jsonl"
"""The file that keeps what was removed: each row with its ``split``, its ``line`` there and ``why``."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The rows of one split that were removed, by reason; or, in a file that is not JSONL, that have to be."""

    task: str
    path: Path
    reasons: dict[str, int]
    written: bool

    def __str__(self) -> str:
        counts = ", ".join(f"{counted(number, 'row')} with {reason}" for reason, number in self.reasons.items())
        if self.written:
            return f"{self.task}: moved from {self.path.name} to {REMOVED}: {counts}"
        return f"{self.task}: {self.path.name} is not JSONL and stays as it is: {counts}; remove them there"


def fix(folder: TaskFolder) -> list[Fixed]:
    """Remove a task's rows without text, its duplicates and its leaks; return what was removed from each split.

    Raises:
        DataError: a file cannot be read to its end, or no row of a split would be left; nothing is written.
        OSError: a file cannot be written; nothing is if it is a link to a read-only file.
    """
    splits, lines = dict[str, Split](), dict[str, dict[str, int]]()
    for name in SPLITS:
        if folder.files(name):
            numbered = _read(folder, name)
            splits[name] = Split(folder.task, name, [row for _, row in numbered])
            lines[name] = {row.id: line for line, row in numbered}
    wrong, removed = dict[str, dict[str, str]](), folder.path / REMOVED
    for number, (name, split) in enumerate(splits.items()):
        later = list(splits.values())[number + 1 :]
        if why := _wrong(split, later):
            if len(why) == len(split.rows):
                message = "would keep no row, since each is a duplicate, a leak or empty"
                raise DataError(message, path=folder.file(name))
            if folder.file(name).suffix == ".jsonl":
                refuse_link(folder.file(name))
                if removed.is_symlink():
                    raise DataError("is a link, through which no removed row is kept; remove it", path=removed)
            wrong[name] = why
    fixed = list[Fixed]()
    for name, why in wrong.items():
        path = folder.file(name)
        if written := path.suffix == ".jsonl":
            _remove(path, {id: lines[name][id] for id in why}, splits[name], why)
        reasons = {reason: list(why.values()).count(reason) for reason in dict.fromkeys(why.values())}
        fixed.append(Fixed(folder.task.name, path, reasons, written))
    return fixed


def _read(folder: TaskFolder, split: str) -> list[tuple[int, Row]]:
    numbered = rows_and_errors(folder.task, folder.file(split), distinct=True)
    return [(line, row) for line, row in numbered if isinstance(row, Row)]


def _wrong(split: Split, later: Sequence[Split]) -> dict[str, str]:
    """Return the ids of the rows to remove, in the file's order, each with the reason."""
    why: dict[str, str] = {}
    for finding in (*empty_fields(split), *copies_within(split)):
        if finding.kind is Kind.EMPTY_INPUT:
            why |= dict.fromkeys((id for (id,) in finding.groups), "no text in any input field")
        if finding.kind is Kind.DUPLICATE:
            repeats = (id for group in finding.groups for id in group[1:])
            why |= dict.fromkeys(repeats, "input and target of an earlier row")
    for other in later:
        for key in split.copies.keys() & other.copies.keys():
            leaked = split.ids([position for position in split.copies[key] if split.rows[position].id not in why])
            why |= dict.fromkeys(leaked, f"the input of a row of {other.name}")
    return {row.id: why[row.id] for row in split.rows if row.id in why}


def _remove(path: Path, lines: dict[str, int], split: Split, why: dict[str, str]) -> None:
    removed = path.with_name(REMOVED)
    earlier = removed.read_bytes() if removed.exists() else b""
    records = (
        {"split": split.name, "line": lines[row.id], "why": why[row.id], **row.to_json()}
        for row in split.rows
        if row.id in why
    )
    new = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
    # Saved before they are removed.
    write_atomically(removed, earlier + new.encode(), path)
    gone = set(lines.values())
    # Of bytes, a line ends as in `udr.data`: with a line feed, a carriage return, or both.
    kept = (line for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1) if number not in gone)
    write_atomically(path, b"".join(kept))
