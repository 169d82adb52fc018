"""Pools, samples and collections of tasks."""

import shutil
from pathlib import Path

import pytest

from tests.fakes import NOTES, QUESTIONS, write_task
from udr.data import Pool, TaskFamily, open_collection, parse_task, sample
from udr.errors import ConfigError, DataError, UnknownTaskError
from udr.types import Row

TASK = parse_task(QUESTIONS)
ROWS = tuple(Row(id=f"{number}", input={"question": "?"}, target="place") for number in (3, 1, 20, 2))


def test_a_pool_is_sorted_by_id_and_has_rows_with_different_ids() -> None:
    assert [row.id for row in Pool(TASK, ROWS).rows] == ["1", "2", "20", "3"]
    with pytest.raises(DataError, match="the pool of task 'questions' is empty"):
        Pool(TASK, ())
    with pytest.raises(DataError, match=r"two rows of the pool .* have the id '1'"):
        Pool(TASK, (*ROWS, ROWS[1]))


def test_a_sample_depends_only_on_seed_and_ids() -> None:
    rows = [Row(id=f"{number}", input={}, target="x") for number in range(50)]
    ten = sample(rows, 10, seed=1)
    assert sample(reversed(rows), 10, seed=1) == ten == sample(rows, 20, seed=1)[:10]
    assert sample(rows, 10, seed=2) != ten
    assert len(sample(rows, None, 0)) == len(sample(rows, 99, 0)) == 50


@pytest.mark.parametrize("folder", ["", "topic", "topic/questions"])
def test_a_collection_a_family_or_a_task_can_be_opened(collection: Path, folder: str) -> None:
    opened = open_collection(collection / folder)
    assert list(opened.tasks) == (["notes", "questions", "reviews"] if folder == "" else ["questions"])
    assert opened.families["topic"] == TaskFamily("topic", "topic")
    assert len(opened.tasks["questions"].pool()) == 24
    assert [row.id for row in opened.tasks["questions"].rows("test")] == ["t-q00", "t-q01", "t-q02", "t-q03"]


def test_tasks_are_in_the_requested_order(collection: Path) -> None:
    opened = open_collection(collection, ["reviews", "notes"])
    assert list(opened.tasks) == ["reviews", "notes"]
    assert opened.families == {"mood": TaskFamily("mood", "Give the mood of the text.")}


def test_unknown_tasks_and_folders_without_tasks_are_errors(collection: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownTaskError, match=r"unknown task 'nope'; the tasks are notes, questions, reviews"):
        open_collection(collection, ["notes", "nope"])
    with pytest.raises(ConfigError, match=r"contains no task.toml"):
        open_collection(tmp_path)
    with pytest.raises(ConfigError, match=r"no such folder of tasks"):
        open_collection(tmp_path / "none")
    (tmp_path / "a b.csv").write_text("text,target\n", "utf-8")
    with pytest.raises(ConfigError, match=r"a b\.csv: is a file, .* of it with: udr init '.*a b\.csv' --out tasks"):
        open_collection(tmp_path / "a b.csv")


def test_task_names_must_be_unique_and_match_their_folders(tmp_path: Path) -> None:
    write_task(tmp_path, NOTES)
    other = write_task(tmp_path, {**NOTES, "family": "other"})
    with pytest.raises(DataError, match=r"other/notes/task.toml: field 'name': 'notes' is also in .*mood/notes"):
        open_collection(tmp_path)
    other.rename(tmp_path / "mood" / "memos")
    with pytest.raises(DataError, match=r"field 'name': is 'notes', but the folder is named 'memos'"):
        open_collection(tmp_path)


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_family_is_that_of_the_folder_that_defines_it_in_any_order(tmp_path: Path, first: str) -> None:
    for folder, name in (("a", "x"), ("b", "y")):
        write_task(tmp_path, {**NOTES, "name": name, "family": folder})
        path = tmp_path / folder / name / "task.toml"
        path.write_text(path.read_text("utf-8").replace(f'family = "{folder}"', 'family = "support"'), "utf-8")
    (tmp_path / first / "family.toml").write_text('instruction = "Help."', "utf-8")
    assert open_collection(tmp_path).families == {"support": TaskFamily("support", "Help.")}
    # So it depends neither on which tasks are opened.
    for name in ("x", "y"):
        assert open_collection(tmp_path, [name]).families["support"].instruction == "Help."
    second = tmp_path / ("b" if first == "a" else "a") / "family.toml"
    second.write_text('instruction = "Help."', "utf-8")
    assert open_collection(tmp_path).families["support"].instruction == "Help."
    second.write_text('instruction = "Answer."', "utf-8")
    with pytest.raises(
        DataError, match=r"b/family.toml: field 'instruction': family 'support' has another .* in .*/a/"
    ):
        open_collection(tmp_path)


def test_a_task_is_named_as_its_folder_or_as_a_link_to_it(tmp_path: Path) -> None:
    versioned = write_task(tmp_path / "data", NOTES).rename(tmp_path / "notes-v2")
    link = tmp_path / "tasks" / "mood" / "notes"
    link.parent.mkdir(parents=True)
    link.symlink_to(versioned)
    for root in (tmp_path / "tasks", link):
        assert list(open_collection(root).tasks) == ["notes"]
    versioned.rename(tmp_path / "notes")
    link.unlink()
    other = link.with_name("memos")
    other.symlink_to(tmp_path / "notes")
    assert list(open_collection(tmp_path / "tasks").tasks) == ["notes"]
    other.unlink()
    (tmp_path / "notes").rename(other)
    with pytest.raises(DataError, match="is 'notes', but the folder is named 'memos'"):
        open_collection(tmp_path / "tasks")


def test_what_a_killed_command_left_is_no_task(tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES)
    for left in (".init-x/replaced", ".init-x", "mood/.notes.7-01234567"):
        shutil.copytree(folder, tmp_path / left, dirs_exist_ok=True)
    assert [task.path for task in open_collection(tmp_path).tasks.values()] == [folder]
    # A hidden folder that is named itself is opened.
    hidden = tmp_path / "mood" / ".notes.7-01234567"
    (hidden / "task.toml").unlink()
    folder.rename(hidden / "notes")
    assert [*open_collection(hidden).tasks] == ["notes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"name = ", "task.toml: not TOML"), (b'name = "\xff"', r"task.toml: not UTF-8: byte 8 \(invalid start byte\)")],
)
def test_an_invalid_toml_file_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (write_task(tmp_path, NOTES) / "task.toml").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_collection(tmp_path)


def test_a_split_is_one_file_with_rows(tmp_path: Path) -> None:
    folder = write_task(tmp_path, NOTES, train=[{"id": "1", "input": {"text": "a"}, "target": "glad"}], test=[])
    (folder / "train.csv").write_text("id,text,target\n", "utf-8")
    notes = open_collection(tmp_path).tasks["notes"]
    for split, message in {
        "test": "test.jsonl: contains no rows; task 'notes' needs at least one",
        "validation": "needs one of validation.jsonl, validation.csv, .*; found none",
        "train": "found train.jsonl and train.csv",
    }.items():
        with pytest.raises(DataError, match=message):
            notes.rows(split)


def test_toml_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_task(tmp_path, QUESTIONS, train=[]) / "task.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(open_collection(tmp_path).tasks) == ["questions"]
    path.write_text("version https://git-lfs.github.com/spec/v1\n", "utf-8")
    with pytest.raises(DataError, match=r"task\.toml: is a Git LFS pointer"):
        open_collection(tmp_path)
