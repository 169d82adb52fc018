"""Writes: rows put and ids deleted together, all or none; what a record of the log holds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from udr.data import row_text
from udr.search import Vectors
from udr.types import Row


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
        seconds: when it was written, since 1970.
        receipts: of the client's key, if it sent one; and of earlier ones, in a log that was rewritten.
    """

    task: str
    rows: Sequence[Row]
    vectors: Vectors
    tokens: Sequence[int | None]
    deleted: Sequence[str] = ()
    encoder: str = ""
    tokenizer: str | None = None
    seconds: float = 0.0
    receipts: Sequence[Receipt] = ()

    def to_bytes(self) -> bytes:
        """Return the write as a record's content: a line of JSON, and the vectors."""
        keys: dict[str, Any] = {"task": self.task, "seconds": self.seconds}
        if self.rows:
            # As texts, so that the order of a row's keys, and so its bytes in a later build, remain.
            keys |= {"rows": [row_text(row) for row in self.rows], "tokens": list(self.tokens)}
            keys |= {"encoder": self.encoder, "tokenizer": self.tokenizer, "dimension": self.vectors.shape[1]}
        if self.deleted:
            keys["deleted"] = list(self.deleted)
        if self.receipts:
            keys["receipts"] = [[one.key, one.digest, list(one.created), list(one.found)] for one in self.receipts]
        line = json.dumps(keys, ensure_ascii=False, separators=(",", ":"))
        return line.encode() + b"\n" + np.ascontiguousarray(self.vectors, "<f4").tobytes()

    @classmethod
    def parse(cls, content: bytes) -> "Write":
        """Return the write that a record's content holds; its checksum says that it is what ``to_bytes`` made."""
        line, _, rest = content.partition(b"\n")
        keys = json.loads(line)
        rows = [_row(text) for text in keys.get("rows", ())]
        return cls(
            task=keys["task"],
            rows=rows,
            vectors=np.frombuffer(rest, "<f4").reshape(len(rows), keys.get("dimension", 0)),
            tokens=keys.get("tokens", ()),
            deleted=keys.get("deleted", ()),
            encoder=keys.get("encoder", ""),
            tokenizer=keys.get("tokenizer"),
            seconds=keys["seconds"],
            receipts=tuple(Receipt(key, digest, *map(tuple, ids)) for key, digest, *ids in keys.get("receipts", ())),
        )


def _row(text: str) -> Row:
    keys = json.loads(text)
    choices, references = (tuple(keys.pop(name, ())) for name in ("choices", "references"))
    return Row(**keys, choices=choices, references=references)
