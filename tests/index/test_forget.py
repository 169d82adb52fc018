"""``udr index compact --forget``: what it forgets, and what it must not."""

import errno
import os
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_task
from udr import Retriever, Row
from udr.errors import InvalidInputError, NotWriterError, OutdatedError, StorageError, UnknownTaskError
from udr.store import LIVE, open_version, read_current, verify
from udr.store.live import LOG
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_index.versions.live import compact, verify_log


def note(id: str, target: str = "glad") -> Row:
    return Row(id=id, input={"text": f"the {id} day"}, target=target)


def question(id: str) -> Row:
    return Row(id=id, input={"question": f"Where is {id}?"}, target="place")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    write_task(tmp_path / "tasks", NOTES, train=[note("old").to_json()])
    write_task(tmp_path / "tasks", QUESTIONS, train=[question("old").to_json()])
    return tmp_path / "tasks"


def ids(index: Path, task: str) -> list[str]:
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        return [row.id for row in retriever.demonstrations(task).rows]


def test_writes_that_the_version_cannot_have_are_kept(tasks: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build(BuildConfig(tasks=tasks, out=index), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("precious"))
        retriever.delete("notes", "old")
        retriever.put("questions", [question("lake"), Row(id="who", input={"question": "Who?"}, target="person")])
    write_task(tasks, {**QUESTIONS, "labels": ["place", "number"]})
    build(BuildConfig(tasks=tasks, out=index, names=("questions",)), HashEncoder())
    assert compact(index, HashEncoder(), forget=True).forgotten
    assert ids(index, "questions") == ["lake", "old"]
    # What was waiting counts again; what the version had is forgotten.
    write_task(tasks, QUESTIONS)
    build(BuildConfig(tasks=tasks, out=index), HashEncoder())
    assert ids(index, "notes") == ["precious"] and ids(index, "questions") == ["old", "who"]


@pytest.mark.parametrize("forget", [True, False])
def test_an_emptied_task_keeps_no_other_from_being_compacted(
    forget: bool, tasks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = tmp_path / "index"
    build(BuildConfig(tasks=tasks, out=index), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        retriever.put("questions", question("lake"))
        retriever.delete("notes", "old")
    made = compact(index, HashEncoder(), forget=forget)
    assert made.version != made.previous and made.sizes == {"notes": 0, "questions": 2}
    assert [line for line in caplog.messages if "a version needs a row of each task; of notes, which has none" in line]
    again = compact(index, HashEncoder(), forget=forget)
    assert again.version == again.previous == made.version
    assert ids(index, "notes") == [] and ids(index, "questions") == ["lake", "old"]
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        assert retriever.overlay_rows == 1
        retriever.put("notes", note("new"))
    compact(index, HashEncoder(), forget=forget)
    assert ids(index, "notes") == ["new"] and verify(index) == []


def test_keys_of_clients_are_kept(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("first"), idempotency_key="k0")
        retriever.put("notes", note("second"), idempotency_key="k1")
    compact(copy, HashEncoder(), forget=True)
    for _ in range(2):
        with Retriever.open(copy, encoder=HashEncoder()) as retriever:
            retriever.delete("notes", "second")
            again = retriever.put("notes", note("second"), idempotency_key="k1")
            assert (again.repeated, again.created) == (True, ("second",))
            with pytest.raises(UnknownTaskError):
                retriever.demonstration("notes", "second")
            with pytest.raises(InvalidInputError, match="'k0' was used for another write"):
                retriever.put("notes", note("second"), idempotency_key="k0")
        # Once more, from a log that holds little but keys.
        compact(copy, HashEncoder(), forget=True)


def test_a_pool_that_lacks_what_was_forgotten_does_not_answer(copy: Path) -> None:
    before = open_version(copy)
    with Retriever.open(copy, encoder=HashEncoder()) as behind:
        for id, gone in (("one", "n00"), ("two", "n01")):
            with Retriever.open(copy, encoder=HashEncoder()) as writer:
                writer.put("notes", note(id))
                writer.delete("notes", gone)
            compact(copy, HashEncoder(), forget=True)
            for _ in range(2):
                with pytest.raises(
                    OutdatedError, match=f"that version {read_current(copy)} has.* open the index again"
                ):
                    behind.demonstration("notes", gone)
        # Neither does one of that version that is opened now, as by a worker that is restarted.
        with pytest.raises(OutdatedError):
            Retriever.of_version(before, encoder=HashEncoder())
        assert verify_log(copy, before) == [] and {"one", "two"} <= {*ids(copy, "notes")}
        # Who publishes it again does without them.
        publish(copy, before.manifest.version)
        assert behind.demonstration("notes", "n00").id == "n00"


def test_a_pool_that_has_seen_what_was_forgotten_answers_on(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as writer:
        writer.put("notes", note("one"))
        behind = Retriever.open(copy, encoder=HashEncoder())
        writer.put("notes", note("two"))
    compact(copy, HashEncoder(), forget=True)
    with behind, Retriever.open(copy, encoder=HashEncoder()) as writer:
        writer.put("notes", note("three"))
        assert [behind.demonstration("notes", id).id for id in ("one", "two", "three")] == ["one", "two", "three"]


def test_nothing_is_made_if_another_process_writes(copy: Path) -> None:
    before = read_current(copy)
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("new"))
        with pytest.raises(NotWriterError, match="another process writes"):
            compact(copy, HashEncoder(), forget=True)
        assert read_current(copy) == before
        assert not compact(copy, HashEncoder()).forgotten
    assert read_current(copy) != before


@pytest.mark.parametrize("forget", [True, False])
def test_a_log_that_cannot_be_rewritten_is_told_with_the_version(
    forget: bool, copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", note("new"))
    before, replace = read_current(copy), os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).name == LOG:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    message = "is current, but the log of writes is as it was: the write was refused, .*No space left"
    if forget:
        with pytest.raises(StorageError, match=message):
            compact(copy, HashEncoder(), forget=True)
    else:
        compact(copy, HashEncoder())
        assert [record.getMessage() for record in caplog.records if "is as it was" in record.getMessage()]
    assert read_current(copy) != before
    assert (copy / LIVE / LOG).exists() and "new" in ids(copy, "notes")
