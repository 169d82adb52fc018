"""Writes: rows put and ids deleted together, all or none; what a record of the log holds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udr.data import row_text
from udr.errors import reason
from udr.search import Vectors
from udr.store.live.log import WriteLog
from udr.store.live.records import DamagedRecordError
from udr.types import Row

_MOST_SECONDS, _MOST_TOKENS = 1e11, 2**31 - 1
"""The largest time, some thousand years from now, and number of tokens that a record may have."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client's key for a write stands for, so that the write is done once.

    Attributes:
        key: the client's ``Idempotency-Key``, with who it is.
        digest: a hash of what was asked.
        created: the ids that were new.
        found: the ids that were there before.
    """

    key: str
    digest: str
    created: tuple[str, ...] = ()
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the pool of a task.

    Attributes:
        task: the task.
        rows: the rows put.
        vectors: what the encoder made of them, float32 [len(rows), dimension].
        tokens: how many tokens each has as a prompt shows it; None where it was not counted.
        deleted: the ids deleted.
        encoder: the encoder's fingerprint.
        tokenizer: that of the tokenizer; None without one.
        wording: the ``demonstration_wording`` of what both read; empty if an older udr wrote it.
        seconds: when it was written, since 1970.
        receipts: of the client's key, if it sent one; and of earlier ones, in a log that was rewritten.
        forgotten: when rows were last dropped from the log as a version has them, in seconds since 1970; 0 if never.
        holder: the version that has what was last dropped; empty if nothing was.
    """

    task: str
    rows: Sequence[Row]
    vectors: Vectors
    tokens: Sequence[int | None]
    deleted: Sequence[str] = ()
    encoder: str = ""
    tokenizer: str | None = None
    wording: str = ""
    seconds: float = 0.0
    receipts: Sequence[Receipt] = ()
    forgotten: float = 0.0
    holder: str = ""

    def to_bytes(self) -> bytes:
        """Return the write as a record's content: a line of JSON, and the vectors."""
        keys: dict[str, Any] = {"task": self.task, "seconds": self.seconds}
        if self.rows:
            # As texts, so that the order of a row's keys, and so its bytes in a later build, remain.
            keys |= {"rows": [row_text(row) for row in self.rows], "tokens": list(self.tokens)}
            keys |= {"encoder": self.encoder, "tokenizer": self.tokenizer, "dimension": self.vectors.shape[1]}
            keys |= {"wording": self.wording}
        if self.deleted:
            keys["deleted"] = list(self.deleted)
        if self.receipts:
            keys["receipts"] = [[one.key, one.digest, list(one.created), list(one.found)] for one in self.receipts]
        if self.forgotten:
            keys["forgotten"] = self.forgotten
        if self.holder:
            keys["holder"] = self.holder
        line = json.dumps(keys, ensure_ascii=False, separators=(",", ":"))
        return line.encode() + b"\n" + np.ascontiguousarray(self.vectors, "<f4").tobytes()

    @classmethod
    def parse(cls, content: bytes) -> "Write":
        """Return the write that a record's content holds.

        Raises:
            DamagedRecordError: it is not what ``to_bytes`` makes. Its checksum only says that it was not altered since.
        """
        line, _, rest = content.partition(b"\n")
        try:
            keys = json.loads(line)
            rows = [_row(text) for text in keys.get("rows", ())]
            write = cls(
                task=keys["task"],
                rows=rows,
                vectors=np.frombuffer(rest, "<f4").reshape(len(rows), keys.get("dimension", 0)),
                tokens=keys.get("tokens", ()),
                deleted=keys.get("deleted", ()),
                encoder=keys.get("encoder", ""),
                tokenizer=keys.get("tokenizer"),
                wording=keys.get("wording", ""),
                seconds=keys["seconds"],
                receipts=tuple(_receipt(*values) for values in keys.get("receipts", ())),
                forgotten=keys.get("forgotten", 0.0),
                holder=keys.get("holder", ""),
            )
        except KeyError as error:
            raise DamagedRecordError(f"it has no key {error}") from error
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise DamagedRecordError(f"it is no write ({reason(error)})") from error
        if problem := write._problem():
            raise DamagedRecordError(problem)
        return write

    def _problem(self) -> str:
        """Return what is not as ``to_bytes`` writes it; empty if nothing is."""
        names = (self.task, self.encoder, self.tokenizer or "", self.wording, self.holder)
        if not all(isinstance(name, str) for name in names) or not _are_texts(self.deleted):
            return "its task, encoder, tokenizer, wording, holder and deleted ids must be texts"
        if not _is_time(self.seconds) or not _is_time(self.forgotten):
            return "its time must be a number"
        if len(self.tokens) != len(self.rows) or not all(_is_count(count) for count in self.tokens):
            return "its numbers of tokens must be whole numbers, one for each row"
        if not np.isfinite(self.vectors).all():
            return "its vectors must be finite"
        return ""


def read_writes(log: WriteLog) -> tuple[bool, list[tuple[int, Write]]]:
    """Return the writes that are new in a log, with their positions, and whether they are all; see ``WriteLog.read``.

    Raises:
        VerificationError: the log is damaged, or a record holds no write; what is read next is everything.
    """
    fresh, entries = log.read()
    writes = list[tuple[int, Write]]()
    for position, content in entries:
        try:
            writes.append((position, Write.parse(content)))
        except DamagedRecordError as error:
            raise log.damaged(f"write {position} is damaged: {error}") from error
    return fresh, writes


def holder_of(log: WriteLog) -> str:
    """Read all of a log again; return the version that has what was last dropped from it, empty if nothing was.

    Raises:
        VerificationError: the log is damaged.
        OSError: it cannot be read.
    """
    last = log.check()
    try:
        return Write.parse(last).holder if last else ""
    except DamagedRecordError as error:
        raise log.damaged(str(error)) from error


def _row(text: str) -> Row:
    keys = json.loads(text)
    choices, references = (keys.pop(name, []) for name in ("choices", "references"))
    row = Row(**keys, choices=tuple(choices), references=tuple(references))
    whole = isinstance(row.input, dict) and isinstance(row.metadata, dict)
    if not whole or not _are_texts([row.id, row.target, *choices, *references]):
        raise ValueError("a row has a key of another type")
    # Refuses what JSON and UTF-8 do not have: NaN, infinity and half a character.
    row_text(row).encode()
    return row


def _receipt(key: str, digest: str, created: list[str], found: list[str]) -> Receipt:
    if not _are_texts([key, digest, *created, *found]):
        raise ValueError("a receipt has something else than texts")
    return Receipt(key, digest, tuple(created), tuple(found))


def _are_texts(values: Sequence[object]) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _MOST_SECONDS


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= _MOST_TOKENS)
