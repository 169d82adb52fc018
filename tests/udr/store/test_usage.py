"""Counts of demonstrations and prompts with their outcomes, in memory and in the file."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.waiting import until
from udr.errors import ArtifactError, InvalidInputError, StorageError, UnknownPromptError
from udr.store import LIVE
from udr.store.usage import USAGE, Count, PromptOutcome, Usage, UsageFile, UsageLevel, estimates


@pytest.fixture
def usage(tmp_path: Path) -> Iterator[Usage]:
    with closing(Usage(tmp_path, UsageLevel.INPUTS)) as usage:
        yield usage


def everyone(task: str, owner: str | None) -> bool:
    return True


def read(root: Path) -> UsageFile:
    return UsageFile(root / LIVE / USAGE, read_only=True)


def test_counts_are_those_of_the_file_and_of_memory(tmp_path: Path, usage: Usage) -> None:
    usage.retrieved([("notes", "a"), ("notes", "b"), ("moods", "a")])
    usage.prompt("notes", ["a"])
    assert usage.counts("notes", ["a", "b", "c"]) == {"a": Count(1, 1), "b": Count(1, 0), "c": Count()}
    usage.flush()
    usage.retrieved([("notes", "a")])
    assert usage.counts("notes", ["a"]) == {"a": Count(2, 1)}
    with read(tmp_path) as file:
        assert file.counts("notes") == {"a": Count(1, 1), "b": Count(1, 0)}
        assert file.counts("moods") == {"a": Count(1, 0)}
        total = file.totals()["notes"]
        assert total.prompts == 1 and total.since > 0


def test_several_processes_add_to_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from udr.store.usage import Usage\n"
        "usage = Usage(Path(sys.argv[1]))\n"
        "for _ in range(50):\n"
        "    usage.retrieved([('notes', 'a')]); usage.prompt('notes', ['a']); usage.flush()\n"
        "usage.close()"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    with read(tmp_path) as file:
        assert (file.counts("notes"), file.totals()["notes"].prompts) == ({"a": Count(150, 150)}, 150)


def test_a_kill_loses_what_was_not_flushed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from udr.store.usage import Usage\n"
        "usage = Usage(Path(sys.argv[1])); usage.retrieved([('notes', 'a')]); usage.flush()\n"
        "usage.retrieved([('notes', 'a')]); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with read(tmp_path) as file:
        assert file.counts("notes") == {"a": Count(1, 0)}


def counted(root: Path) -> Mapping[str, Count]:
    try:
        with read(root) as file:
            return file.counts("notes")
    except StorageError:
        # There is no file, or nothing is in it yet.
        return {}


def test_a_file_that_is_being_made_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / LIVE).mkdir()
    (tmp_path / LIVE / USAGE).touch()
    with pytest.raises(StorageError, match="has no counts yet; try again when the service has written some"):
        read(tmp_path)


def test_the_thread_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.store.usage.usage.FLUSH_SECONDS", 0.01)
    with closing(Usage(tmp_path)) as usage:
        for number in (1, 2):
            usage.retrieved([("notes", "a")])
            until(lambda: counted(tmp_path) == {"a": Count(number, 0)})  # noqa: B023


def test_outcomes_are_those_of_prompts(tmp_path: Path, usage: Usage) -> None:
    first = usage.prompt("notes", ["a", "b"], {"text": "é" * 20}, "shop") or ""
    second = usage.prompt("notes", [], {"text": "é" * 9000}) or ""
    assert usage.tell([PromptOutcome(first, 1.0), PromptOutcome(second, 0.25, "glad")], everyone) == 0
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        usage.tell([PromptOutcome(first, 0.0, "\ud800")], everyone)
    # The last one counts.
    assert usage.tell([PromptOutcome(first, 0.5)], everyone) == 1
    with read(tmp_path) as file:
        told = list(file.told())
    assert [(item.prompt.ids, item.prompt.owner, item.outcome.score, item.outcome.target) for item in told] == [
        (("a", "b"), "shop", 0.5, None),
        ((), None, 0.25, "glad"),
    ]
    # The other is too long to be kept.
    assert [item.prompt.input for item in told] == [{"text": "é" * 20}, None]


def test_unknown_and_invisible_prompts_are_refused_alike_and_as_a_whole(tmp_path: Path, usage: Usage) -> None:
    known = usage.prompt("notes", ["a"], owner="shop") or ""
    problem = r"no prompt is known as {}; prompt_id is in the answer to /v1/prompt"
    with pytest.raises(UnknownPromptError, match=problem.format("x, y")):
        usage.tell([PromptOutcome("x", 1.0), PromptOutcome(known, 1.0), PromptOutcome("y", 1.0)], everyone)
    with pytest.raises(UnknownPromptError, match=problem.format(known)):
        usage.tell([PromptOutcome(known, 1.0)], lambda task, owner: owner != "shop")
    with read(tmp_path) as file:
        assert list(file.told()) == []


def test_the_oldest_prompts_are_dropped(tmp_path: Path) -> None:
    with closing(Usage(tmp_path, prompts=3)) as usage:
        ids = [usage.prompt("notes", [str(number)]) or "" for number in range(5)]
        usage.flush()
        with pytest.raises(UnknownPromptError):
            usage.tell([PromptOutcome(ids[1], 1.0)], everyone)
        # Those with an outcome are counted apart.
        usage.tell([PromptOutcome(id, 1.0) for id in ids[2:]], everyone)
        later = [usage.prompt("notes", ["x"]) or "" for _ in range(3)]
        usage.tell([PromptOutcome(later[0], 1.0)], everyone)
        usage.prompt("notes", ["y"])
        usage.flush()
    with read(tmp_path) as file:
        assert [item.prompt.ids for item in file.told()] == [("3",), ("4",), ("x",)]
    with closing(Usage(tmp_path, days=0.0)) as usage:
        usage.prompt("notes", ["z"])
        usage.flush()
        with read(tmp_path) as file:
            assert list(file.told()) == []


def test_without_a_place_to_write_counting_goes_on_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / LIVE).write_text("in the way")
    with closing(Usage(tmp_path)) as usage, caplog.at_level(logging.WARNING):
        for _ in range(3):
            prompt_id = usage.prompt("notes", ["a"]) or ""
            usage.flush()
        assert usage.counts("notes", ["a"]) == {"a": Count(0, 3)}
        with pytest.raises(StorageError, match="File exists"):
            usage.tell([PromptOutcome(prompt_id, 1.0)], everyone)
        assert [record.message.partition(":")[0] for record in caplog.records] == [
            "the usage of demonstrations is not stored, and is kept in memory meanwhile"
        ]
        (tmp_path / LIVE).unlink()
        assert usage.tell([PromptOutcome(prompt_id, 1.0)], everyone) == 0
    with read(tmp_path) as file:
        assert (file.counts("notes"), [item.outcome.score for item in file.told()]) == ({"a": Count(0, 3)}, [1.0])


def test_prompts_are_counted_also_if_too_many_wait_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / LIVE).write_text("in the way")
    with closing(Usage(tmp_path)) as usage:
        for number in range(12_000):
            usage.prompt("notes", ["a"])
            if number in (3000, 11_000):
                usage.flush()
        usage.prompt("moods", ["a"])
        (tmp_path / LIVE).unlink()
        usage.flush()
        usage.prompt("notes", ["a"])
    with read(tmp_path) as file:
        assert file.counts("notes") == {"a": Count(0, 12_001)}
        assert {task: total.prompts for task, total in file.totals().items()} == {"notes": 12_001, "moods": 1}


def test_nothing_is_counted_if_it_is_off(tmp_path: Path) -> None:
    for usage in (Usage(tmp_path, UsageLevel.OFF), Usage(None)):
        usage.retrieved([("notes", "a")])
        assert usage.prompt("notes", ["a"]) is None
        usage.close()
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_kept_only_if_asked(tmp_path: Path) -> None:
    with closing(Usage(tmp_path)) as usage:
        usage.tell([PromptOutcome(usage.prompt("notes", [], {"text": "secret"}) or "", 1.0)], everyone)
    with read(tmp_path) as file:
        assert [item.prompt.input for item in file.told()] == [None]
    assert b"secret" not in b"".join(path.read_bytes() for path in (tmp_path / LIVE).iterdir())


@pytest.mark.parametrize("content", [b"not a database at all, whatever its name says" * 30, None])
def test_another_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / LIVE / USAGE
    path.parent.mkdir()
    if content is None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE other (x)")
    else:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is no file of usage.*move it away to count anew"):
        UsageFile(path)


def test_estimates_by_hand() -> None:
    outcomes = [("q", ["a", "b"], 1.0), ("q", ["a"], 0.5), ("r", ["a"], 0.0), ("r", [], 0.5)]
    mean, values = estimates(outcomes, prior_weight=2.0)
    assert mean == 0.5
    assert {key: (item.score, item.outcomes) for key, item in values.items()} == {
        # (1 + 0.5 + 2 x 0.5) / (2 + 2), (1 + 2 x 0.5) / (1 + 2), (0 + 2 x 0.5) / (1 + 2)
        ("q", "a"): (0.625, 2),
        ("q", "b"): (pytest.approx(2 / 3), 1),
        ("r", "a"): (pytest.approx(1 / 3), 1),
    }
    assert estimates([]) == (0.0, {})
