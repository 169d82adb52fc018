"""Records that are whole but hold no write: a log of somebody else, with the right checksums."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import HashEncoder
from udr import Retriever, Row
from udr.cli import main
from udr.errors import VerificationError
from udr.store import LIVE
from udr.store.live import LOG, WriteLog
from udr_index.versions.live import verify_log


def write_log(index: Path, *records: bytes) -> None:
    (index / LIVE / LOG).unlink(missing_ok=True)
    log = WriteLog(index / LIVE)
    with log.alone():
        log.append(records)
    log.close()


def record(index: Path) -> tuple[dict[str, Any], bytes]:
    """Return the keys and the vectors of a record that was written."""
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="new", input={"text": "a fine day"}, target="glad"))
    log = WriteLog(index / LIVE)
    ((_, content),) = log.read()[1]
    log.close()
    line, _, vectors = content.partition(b"\n")
    return json.loads(line), vectors


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


Keys = dict[str, Any]
ROW = {"id": "new", "input": {"text": "a"}, "target": "glad"}


@pytest.mark.parametrize(
    ("change", "vectors", "message"),
    [
        (lambda keys: b"no JSON", None, "it is no write"),
        (lambda keys: b"[1]", None, "it is no write"),
        (lambda keys: b"[" * 100_000, None, "it is no write"),
        (lambda keys: keys.pop("task"), None, "it has no key 'task'"),
        (lambda keys: keys.update(task=["notes"]), None, "must be texts"),
        (lambda keys: keys.update(seconds="now"), None, "its time must be a number"),
        (lambda keys: keys.update(forgotten="now"), None, "its time must be a number"),
        (lambda keys: keys.update(seconds=float("nan")), None, "its time must be a number"),
        (lambda keys: keys.update(rows=["[1]"]), None, "it is no write"),
        (lambda keys: keys.update(rows=[ROW]), None, "it is no write"),
        (lambda keys: keys.update(rows=[json.dumps({**ROW, "id": ["new"]})]), None, "a row has a key of another type"),
        (lambda keys: keys.update(rows=[json.dumps({**ROW, "input": []})]), None, "a row has a key of another type"),
        (lambda keys: keys.update(rows=[json.dumps({**ROW, "metadata": {"x": float("inf")}})]), None, "it is no write"),
        (lambda keys: keys.update(rows=[json.dumps({**ROW, "metadata": {"x": "\ud800"}})]), None, "it is no write"),
        (lambda keys: keys.update(deleted=[{}]), None, "must be texts"),
        (lambda keys: keys.update(deleted="n00"), None, "must be texts"),
        (lambda keys: keys.update(receipts=[["key"]]), None, "it is no write"),
        (lambda keys: keys.update(receipts=[["key", 1, [], []]]), None, "something else than texts"),
        (lambda keys: keys.update(tokens=[-5]), None, "its numbers of tokens must be whole numbers"),
        (lambda keys: keys.update(tokens=[1, 2]), None, "its numbers of tokens must be whole numbers"),
        (lambda keys: None, floats(*[1.0] * 7), "it is no write"),
        (lambda keys: keys.update(dimension=7), floats(*[0.1] * 7), "of 7 numbers was written, the encoder makes 48"),
        (lambda keys: keys.update(dimension=1), floats(1.0), "of 1 numbers was written, the encoder makes 48"),
        (lambda keys: None, floats(float("nan"), *[0.0] * 47), "its vectors must be finite"),
        (lambda keys: None, floats(1e30, *[0.0] * 47), "a vector is longer than 1"),
    ],
)
def test_a_record_that_holds_no_write_is_refused_by_name(
    change: Callable[[Keys], object],
    vectors: bytes | None,
    message: str,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys, own = record(copy)
    line = change(keys)
    write_log(copy, (line if isinstance(line, bytes) else json.dumps(keys).encode()) + b"\n" + (vectors or own))
    with pytest.raises(VerificationError, match=f"{LOG}: .*{message}.*restore the index from a backup"):
        Retriever.open(copy, encoder=HashEncoder())
    assert main(["index", "verify", str(copy), "--sample", "0"]) == 3
    assert message in capsys.readouterr().out


def test_a_record_that_was_altered_in_nothing_is_read(copy: Path) -> None:
    keys, vectors = record(copy)
    write_log(copy, json.dumps(keys).encode() + b"\n" + vectors)
    assert verify_log(copy) == []
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        assert retriever.demonstration("notes", "new").target == "glad"


def test_a_pool_that_could_not_read_writes_reads_them_later(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as reader, Retriever.open(copy, encoder=HashEncoder()) as writer:
        encoder = reader.encoder
        writer.put("notes", Row(id="first", input={"text": "a fine day"}, target="glad"))
        log = WriteLog(copy / LIVE)
        ((_, content),) = log.read()[1]
        log.close()
        writer.close()
        # As another encoder's process writes it, so that this one encodes it again.
        log = WriteLog(copy / LIVE)
        with log.alone():
            log.read()
            other = content.replace(encoder.fingerprint.encode(), b"another").replace(b"first", b"second")
            log.append([other])
        log.close()

        def fail(texts: object) -> None:
            raise MemoryError

        encoder.encode_demonstrations, own = fail, encoder.encode_demonstrations  # type: ignore[method-assign, assignment]
        with pytest.raises(MemoryError):
            reader.demonstration("notes", "second")
        encoder.encode_demonstrations = own  # type: ignore[method-assign]
        assert reader.demonstration("notes", "second").target == "glad"
