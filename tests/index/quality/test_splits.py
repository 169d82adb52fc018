"""Collections in which something cannot be read: that is a finding, and the rest is checked."""

import shutil
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, write_collection, write_task
from tests.index.quality.conftest import notes, report
from udr.data import open_collection
from udr.errors import DataError, UnknownTaskError
from udr_index.quality import MAX_ERRORS, Finding, Kind, open_tasks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "tasks")


def unreadable(root: Path, *names: str) -> list[Finding]:
    return [finding for finding in report(root, names=names or None).findings if finding.kind is Kind.UNREADABLE]


def test_two_tasks_of_one_name_are_found_and_the_first_is_checked(root: Path) -> None:
    write_task(root, {**NOTES, "family": "other"}, train=notes("x"))

    (finding,) = unreadable(root)

    assert (finding.task, finding.split) == ("notes", None)
    assert f"'notes' is also in {root / 'mood' / 'notes'}; rename one of them" in finding.message
    assert (report(root).num_tasks, report(root).num_rows) == (3, 66)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("mood/notes/task.toml", 'name = "nots"', "field"),
        ("mood/notes/task.toml", "name =", "not TOML"),
        ("mood/family.toml", "word = 1", "family.toml: field 'word': unknown key"),
    ],
)
def test_unreadable_tasks_go_by_their_folders(root: Path, file: str, text: str, message: str) -> None:
    (root / file).write_text(text, "utf-8")

    tasks = open_tasks(root)

    assert "questions" in tasks.folders and "notes" in tasks.errors
    findings = unreadable(root)
    assert [finding.task for finding in findings] == list(tasks.errors)
    assert all(message in finding.message and "\n" not in finding.message for finding in findings)


def test_what_only_shows_between_tasks_is_found(root: Path) -> None:
    """No other command opens such a collection."""
    write_task(root, {**QUESTIONS, "name": "others"}, train=notes("x"))
    (root / "more").mkdir()
    shutil.move(root / "topic" / "others", root / "more" / "others")
    for folder, text in (("topic", "Ask."), ("more", "Tell.")):
        (root / folder / "family.toml").write_text(f'instruction = "{text}"\n')
    with pytest.raises(DataError) as refused:
        open_collection(root)

    (finding,) = [finding for finding in unreadable(root) if finding.split is None]

    assert (finding.task, finding.message) == ("questions", str(refused.value))
    assert "family 'topic' has another instruction in" in finding.message
    # Of other tasks that are named, every command says so, too.
    assert [finding.task for finding in unreadable(root, "notes")] == ["notes"]


def test_only_named_tasks_are_checked(root: Path) -> None:
    (root / "mood/notes/task.toml").write_text("name =", "utf-8")

    assert unreadable(root, "questions") == []
    assert [finding.task for finding in unreadable(root, "notes")] == ["notes"]
    with pytest.raises(UnknownTaskError, match="unknown task 'nope'; the tasks are notes, questions, reviews"):
        open_tasks(root, ("nope",))


def test_unreadable_splits_are_found(root: Path) -> None:
    write_task(
        root, NOTES, train=[*notes("x", target="angry"), {"id": "9", "input": {"text": "fine"}, "target": "glad"}]
    )
    folder = root / "topic" / "questions"
    shutil.copy(folder / "test.jsonl", folder / "test.csv")
    (folder / "train.jsonl").unlink()

    row, train, test = unreadable(root)

    assert "train.jsonl:1: field 'target': 'angry' is not one of the labels" in row.message
    assert [(finding.task, finding.split) for finding in (row, train, test)] == [
        ("notes", "train"),
        ("questions", "train"),
        ("questions", "test"),
    ]
    assert "train.parquet" in train.message and "test.jsonl and test.csv" in test.message


def test_every_row_that_cannot_be_read_is_found_up_to_a_limit(root: Path) -> None:
    path = root / "mood" / "notes" / "train.jsonl"
    valid = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(["{", *valid, valid[0], *["[]"] * MAX_ERRORS, "null"]), "utf-8")

    findings = unreadable(root)

    assert "train.jsonl:1: not JSON" in findings[0].message
    assert "train.jsonl:22: field 'id': 'n00' was already used on line 2" in findings[1].message
    assert len(findings) == MAX_ERRORS + 1
    assert (findings[-1].count, findings[-1].message[:31]) == (3, "3 more rows cannot be read; cor")
    assert report(root).num_rows == report(write_collection(root.parent / "valid")).num_rows


def test_one_task_folder_is_a_collection(tmp_path: Path) -> None:
    assert list(open_tasks(write_task(tmp_path, QUESTIONS)).folders) == ["questions"]
