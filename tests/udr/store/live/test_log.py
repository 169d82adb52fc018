"""The log of writes: what is torn, what is damaged, who writes and who follows."""

import errno
import logging
import os
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.live_model import random_row
from udr import Retriever, Row
from udr.errors import (
    ConflictError,
    InvalidInputError,
    NotWriterError,
    StorageError,
    UnknownTaskError,
    VerificationError,
)
from udr.retrieval import RetrievalRequest
from udr.store import LIVE
from udr.store.live import LOG, WriteLog, row_version


def note(id: str, text: str = "a fine day") -> Row:
    return Row(id=id, input={"text": text}, target="glad")


def contents(path: Path) -> list[bytes]:
    log = WriteLog(path)
    try:
        return [content for _, content in log.read()[1]]
    finally:
        log.close()


def append(path: Path, *records: bytes) -> None:
    log = WriteLog(path)
    with log.alone():
        log.read()
        log.append(records)
    log.close()


def test_every_altered_byte_is_found(tmp_path: Path) -> None:
    records = [b"a", b"", b"some longer content", b"the last"]
    append(tmp_path, *records[:2])
    append(tmp_path, *records[2:])
    assert contents(tmp_path) == records
    path, draw = tmp_path / LOG, random.Random(0)
    whole = path.read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= draw.randrange(1, 256)
        path.write_bytes(altered)
        with pytest.raises(VerificationError, match=f"{LOG}: .*(altered|checksum|position)"):
            contents(tmp_path)


def test_records_cannot_be_lost_or_swapped(tmp_path: Path) -> None:
    sizes = []
    for record in (b"one", b"two", b"six"):
        append(tmp_path, record)
        sizes.append((tmp_path / LOG).stat().st_size)
    whole = (tmp_path / LOG).read_bytes()
    first, second, third = (slice(*pair) for pair in ((32, sizes[0]), (sizes[0], sizes[1]), (sizes[1], sizes[2])))
    for parts in ([first, third], [second, first, third], [first, second, second, third], [second, third]):
        (tmp_path / LOG).write_bytes(whole[:32] + b"".join(whole[part] for part in parts))
        with pytest.raises(VerificationError, match=r"checksum|position"):
            contents(tmp_path)


def test_an_incomplete_last_record_is_cut_off_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(tmp_path, b"one", b"two")
    path, whole = tmp_path / LOG, (tmp_path / LOG).read_bytes()
    append(tmp_path, b"three")
    longer = path.read_bytes()
    torn = [longer[:size] for size in range(len(whole) + 1, len(longer))]
    # As a power failure may leave it: the file has its size, but not its content.
    torn += [whole + bytes(count) for count in (1, len(longer) - len(whole), 4096)]
    for content in torn:
        path.write_bytes(content)
        assert contents(tmp_path) == [b"one", b"two"]
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            append(tmp_path, b"four")
        assert [f"{len(content) - len(whole)} bytes cut off" in record.getMessage() for record in caplog.records] == [
            True
        ]
        assert contents(tmp_path) == [b"one", b"two", b"four"]


def test_zeros_that_are_not_the_end_are_damage(tmp_path: Path) -> None:
    append(tmp_path, b"one")
    path, whole = tmp_path / LOG, (tmp_path / LOG).read_bytes()
    for content in (bytes(4096), whole + bytes(4096) + b"x", whole[:-1] + b"\0" + bytes(4096)):
        path.write_bytes(content)
        with pytest.raises(VerificationError, match=r"altered|checksum"):
            contents(tmp_path)


def test_a_follower_reads_on_when_the_log_is_rewritten(tmp_path: Path) -> None:
    reader, late, writer = WriteLog(tmp_path), WriteLog(tmp_path), WriteLog(tmp_path)
    append(tmp_path, b"one", b"two")
    assert late.read() == (True, [(1, b"one"), (2, b"two")])
    append(tmp_path, b"three")
    assert reader.read() == (True, [(1, b"one"), (2, b"two"), (3, b"three")])
    with writer.alone():
        writer.read()
        writer.replace([(3, b"three")], 3)
        writer.read()
        assert writer.append([b"four"]) == [4]
    assert reader.read() == (False, [(4, b"four")])
    assert late.read() == (False, [(3, b"three"), (4, b"four")])
    assert contents(tmp_path) == [b"three", b"four"]
    assert not reader.has_news()
    for log in (reader, late, writer):
        log.close()


def test_a_follower_notices_that_what_it_read_was_taken_back(tmp_path: Path) -> None:
    append(tmp_path, b"one")
    size = (tmp_path / LOG).stat().st_size
    append(tmp_path, b"lost")
    reader = WriteLog(tmp_path)
    reader.read()
    os.truncate(tmp_path / LOG, size)
    assert reader.read() == (True, [(1, b"one")])
    append(tmp_path, b"lost")
    reader.read()
    os.truncate(tmp_path / LOG, size)
    append(tmp_path, b"another, longer one")
    append(tmp_path, b"and one more")
    assert [content for _, content in reader.read()[1]] == [b"one", b"another, longer one", b"and one more"]
    reader.close()


def test_one_process_writes_and_the_others_follow(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as first, Retriever.open(copy, encoder=HashEncoder()) as second:
        first.put("notes", note("new", "a unique line"))
        assert second.retrieve("notes", "a unique line", 1, keep_copies=True)[0].id == "new"
        assert second.overlay_position == first.overlay_position == 1
        with pytest.raises(NotWriterError, match=r"another process writes to this index, process [0-9]+ on "):
            second.put("notes", note("other"))
        assert second.overlay_position == 1
        first.close()
        second.put("notes", note("other"))
        assert second.overlay_position == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_log_of_the_same_rows_does_not_grow_for_ever(
    fails: bool, copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("udr.store.live.pool.shortening._SHORT", 16_000)
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        follower = Retriever.open(copy, encoder=HashEncoder())
        retriever.put("notes", note("first"))
        if fails:
            monkeypatch.setattr(os, "replace", full)
        for number in range(12):
            retriever.put("notes", replace(note("again"), metadata={"number": number, "long": "w" * 3000}))
        with follower:
            for each in (retriever, follower):
                assert each.demonstration("notes", "again").metadata["number"] == 11
                assert (each.demonstration("notes", "first").id, each.overlay_position) == ("first", 13)
    size = (copy / LIVE / LOG).stat().st_size
    assert size > 36_000 if fails else 3000 < size < 20_000
    # And again once it is twice as long.
    assert len([line for line in caplog.messages if "the log of writes was not shortened" in line]) == 2 * fails


def test_a_request_s_plans_see_what_was_there_when_it_began(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as first, Retriever.open(copy, encoder=HashEncoder()) as second:
        before = first.at_hand()
        assert before is first.partitions()
        second.put("notes", note("new", "a unique line"))
        assert first.at_hand() is None
        asked = RetrievalRequest(task="notes", input="a unique line", k=1, keep_copies=True)
        plans = [first.plan(asked, partitions=before), first.plan(asked)]
        old, new = first.search(plans, {n: first.encode(plan.query_texts)[0] for n, plan in enumerate(plans)})
        assert (old.overlay_position, new.overlay_position) == (0, 1)
        assert old[0].id != "new" == new[0].id
        assert first.at_hand() is first.partitions() is plans[1].partitions


def test_threads_write_together(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        rows = [random_row(random.Random(n), f"w{n:03}", n) for n in range(64)]
        threads = [threading.Thread(target=retriever.put, args=("notes", row)) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert retriever.overlay_position == 64
        assert all(retriever.demonstration("notes", row.id) == row for row in rows)
    with Retriever.open(copy, encoder=HashEncoder()) as again:
        assert all(again.demonstration("notes", row.id) == row for row in rows)


def test_a_damaged_log_is_refused_by_name(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("new"))
    path = copy / LIVE / LOG
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VerificationError, match=f"{path}: the record at byte 32 has another checksum"):
        Retriever.open(copy, encoder=HashEncoder())


def test_a_write_that_fails_changes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("one"))
        size = (copy / LIVE / LOG).stat().st_size

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", full)
            with pytest.raises(StorageError, match=r"refused, and nothing was written: .*No space left on device"):
                retriever.put("notes", note("two"))
        assert (copy / LIVE / LOG).stat().st_size == size
        with pytest.raises(UnknownTaskError):
            retriever.demonstration("notes", "two")
        assert retriever.put("notes", note("two")).created == ("two",)


def test_an_unforeseen_error_reaches_every_write_that_waits(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, results = threading.Event(), threading.Event(), dict[str, object]()

    def sync(descriptor: int) -> None:
        if not begun.is_set():
            begun.set()
            go_on.wait()
        else:
            raise RuntimeError("unforeseen")

    def put(id: str, if_match: str | None) -> None:
        try:
            results[id] = retriever.put("notes", note(id), if_match=if_match).created
        except (ConflictError, RuntimeError) as error:
            results[id] = type(error)

    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        monkeypatch.setattr(os, "fdatasync", sync)
        threads = [threading.Thread(target=put, args=(id, "*" if id == "b" else None), daemon=True) for id in "abcd"]
        for thread in threads:
            thread.start()
            begun.wait()
            # So that the others queue in this order, while the first is being written.
            time.sleep(0.05)
        go_on.set()
        for thread in threads:
            thread.join(timeout=10)
        assert results == {"a": ("a",), "b": ConflictError, "c": RuntimeError, "d": RuntimeError}
        for id in "bcd":
            with pytest.raises(UnknownTaskError):
                retriever.demonstration("notes", id)
        assert retriever.overlay_position == 1


def test_half_a_character_is_the_id_of_no_row(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        with pytest.raises(UnknownTaskError, match=r"no demonstration '\\ud800'"):
            retriever.demonstration("notes", "\ud800")
        assert retriever.delete("notes", ["n00", "\ud800"]).deleted == ("n00",)
        with pytest.raises(ConflictError, match=r"no '\\ud800'"):
            retriever.delete("notes", "\ud800", if_match="*")
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            retriever.put("notes", note("new"), idempotency_key="\ud800")
        assert retriever.overlay_position == 1


def test_a_torn_record_that_cannot_be_cut_off_refuses_the_write(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("one"))
        with (copy / LIVE / LOG).open("ab") as torn:
            torn.write(b"udr")

        def fail(path: Path, size: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "truncate", fail)
            with pytest.raises(StorageError, match=r"nothing was written: .*Input/output error"):
                retriever.put("notes", note("two"))
        assert retriever.put("notes", note("two")).created == ("two",)


def test_a_write_may_depend_on_a_version(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        version = row_version(retriever.demonstration("notes", "n00"))
        retriever.put("notes", note("n00"), if_match=version)
        with pytest.raises(ConflictError, match=f"version '{version}' of row 'n00', which has version"):
            retriever.put("notes", note("n00", "another"), if_match=version)
        with pytest.raises(ConflictError, match="no 'n99'"):
            retriever.delete("notes", "n99", if_match="*")
        assert retriever.delete("notes", "n00", if_match=row_version(note("n00"))).deleted == ("n00",)


def test_a_key_makes_a_write_once(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        first = retriever.put("notes", [note("n00"), note("new")], idempotency_key="k")
        assert (first.created, first.replaced, first.repeated) == (("new",), ("n00",), False)
        retriever.delete("notes", "new")
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        again = retriever.put("notes", [note("n00"), note("new")], idempotency_key="k")
        assert (again.created, again.replaced, again.repeated) == (("new",), ("n00",), True)
        with pytest.raises(UnknownTaskError):
            retriever.demonstration("notes", "new")
        with pytest.raises(InvalidInputError, match="'k' was used for another write"):
            retriever.put("notes", note("n00"), idempotency_key="k")


def test_rows_that_do_not_fit_are_refused(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        for row, message in {
            "unfit": ({"id": "a", "input": {}, "target": "glad"}, "field 'input.text': is missing"),
            "label": ({"id": "a", "input": {"text": "b"}, "target": "red"}, "not one of the labels"),
            "key": ({"id": "a", "input": {"text": "b"}, "target": "glad", "x": 1}, "unknown key"),
            "long": ({"id": "a" * 513, "input": {"text": "b"}, "target": "glad"}, "at most 512 characters, found 513"),
            "surrogate": ({"id": "a", "input": {"text": "\ud800"}, "target": "glad"}, "lone surrogate"),
        }.values():
            with pytest.raises(InvalidInputError, match=message):
                retriever.put("notes", row)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="row 2: the id 'a' occurs twice"):
            retriever.put("notes", [note("a"), note("a")])
        with pytest.raises(UnknownTaskError, match="unknown task 'nodes'"):
            retriever.put("nodes", note("a"))
        with pytest.raises(InvalidInputError, match="either the ids to delete, or a filter"):
            retriever.delete("notes")
        assert retriever.overlay_position == 0


def test_pages_are_by_id_and_stable(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        expected = sorted({f"n{n:02}" for n in range(20)} - {"n03"} | {"a", "n055", "z"})
        retriever.put("notes", [note(id) for id in ("a", "n055", "z", "n07")])
        retriever.delete("notes", "n03")
        found, after = list[str](), None
        for number in range(100):
            page = retriever.demonstrations("notes", after=after, limit=4)
            found += [row.id for row in page.rows]
            if number == 0:
                # What is put before the place of the list does not move it.
                retriever.put("notes", note("aa"))
            if (after := page.next) is None:
                break
        assert found == expected
        listed = retriever.demonstrations("notes", filter='$id in ["a", "n03", "n04"]')
        assert [row.id for row in listed.rows] == ["a", "n04"]
        cursor = retriever.demonstrations("notes", limit=2).next
        with pytest.raises(InvalidInputError, match="another task or with another filter"):
            retriever.demonstrations("questions", after=cursor)
        with pytest.raises(InvalidInputError, match="the next of an earlier page"):
            retriever.demonstrations("notes", after="n03")
        with pytest.raises(InvalidInputError, match="limit must be from 1 to 1000, found 1001"):
            retriever.demonstrations("notes", limit=1001)


def test_a_pool_may_be_emptied(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.delete("notes", filter="$id exists")
        assert retriever.sizes["notes"] == 0
        assert not retriever.retrieve("notes", "a day")
        retriever.put("notes", note("only"))
        assert [item.id for item in retriever.retrieve("notes", "a day")] == ["only"]
