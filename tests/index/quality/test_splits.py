"""A collection in which something cannot be read: that is told, and all else is looked at as ever."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, write_collection, write_task
from udr.errors import UnknownTaskError
from udr.types import Json
from udr_index.quality import CheckConfig, Finding, Kind, check, collect, open_tasks

ROW: Mapping[str, Json] = {"id": "1", "input": {"text": "x"}, "target": "glad"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "tasks")


def unreadable(root: Path, names: tuple[str, ...] | None = None) -> list[Finding]:
    report = check(CheckConfig(tasks=root, names=names))
    return [finding for finding in report.findings if finding.kind is Kind.UNREADABLE]


def test_a_task_whose_name_is_taken_is_told_and_the_first_is_looked_at(root: Path) -> None:
    write_task(root, {**NOTES, "family": "other"}, train=[ROW])

    (one,) = unreadable(root)

    assert (one.task, one.split) == ("notes", None)
    assert f"'notes' is also in {root / 'mood' / 'notes'}; give one of them another name" in one.message
    report = check(CheckConfig(tasks=root))
    assert (report.num_tasks, report.num_rows) == (3, 66)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mood/notes/task.toml", 'name = "nots"', "field"),
        ("mood/notes/task.toml", "name =", "not TOML"),
        ("mood/family.toml", "word = 1", "family.toml: field 'word': unknown key"),
    ],
)
def test_a_task_that_cannot_be_opened_is_told_by_the_name_of_its_folder(
    root: Path, file: str, text: str, message: str
) -> None:
    (root / file).write_text(text, "utf-8")

    tasks = open_tasks(root)

    assert "questions" in tasks.folders and "notes" in tasks.errors
    found = unreadable(root)
    assert [one.task for one in found] == list(tasks.errors)
    assert all(message in one.message and "\n" not in one.message for one in found)


def test_what_is_wrong_with_a_task_that_nobody_asked_for_is_not_told(root: Path) -> None:
    (root / "mood/notes/task.toml").write_text("name =", "utf-8")

    assert unreadable(root, ("questions",)) == []
    assert [one.task for one in unreadable(root, ("notes",))] == ["notes"]
    with pytest.raises(UnknownTaskError, match="unknown task 'nope'; there are notes, questions, reviews"):
        open_tasks(root, ("nope",))


def test_a_split_in_two_files_and_a_missing_pool_are_told(root: Path) -> None:
    folder = root / "topic" / "questions"
    shutil.copy(folder / "test.jsonl", folder / "test.csv")
    (folder / "train.jsonl").unlink()

    train, test = unreadable(root, ("questions",))

    assert (train.split, test.split) == ("train", "test")
    assert "train.parquet; found none" in train.message and "found test.jsonl and test.csv" in test.message


def test_statistics_leave_out_what_cannot_be_read_and_say_so(root: Path) -> None:
    (root / "mood/notes/task.toml").write_text("name =", "utf-8")
    (root / "topic/questions/test.jsonl").write_text("", "utf-8")

    statistics = collect(root)

    assert [(split.task, split.split) for split in statistics.splits] == [("questions", "train"), ("reviews", "train")]
    assert [error.path for error in statistics.errors] == [
        root / "mood/notes/task.toml",
        root / "topic/questions/test.jsonl",
    ]


def test_a_task_folder_alone_will_do(tmp_path: Path) -> None:
    folder = write_task(tmp_path, QUESTIONS, train=[{"id": "1", "input": {"question": "x"}, "target": "place"}])
    assert list(open_tasks(folder).folders) == ["questions"]
