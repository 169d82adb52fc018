"""Differences between two versions; rows are compared with the same done by dictionaries."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import NOTES, REVIEWS, HashEncoder, write_collection, write_task
from tests.index.builds import build_index
from tests.udr.store.test_version import rewrite_manifest
from udr.errors import ArtifactError
from udr.store import SCHEMA
from udr.types import Json
from udr_index.versions import Difference, Ids, RowsDiff, TaskDiff, diff_rows, diff_versions


def rows_diff(added: str = "", changed: str = "", removed: str = "") -> RowsDiff:
    """Return a diff of rows by their ids, separated by spaces."""
    ids = (Ids(len(text.split()), tuple(text.split())) for text in (added, changed, removed))
    return RowsDiff(**dict(zip(("added", "changed", "removed"), ids, strict=True)))


def write_rows(root: Path, task: Mapping[str, Json], texts: Mapping[str, str]) -> None:
    train: list[Mapping[str, Json]] = [
        {"id": id, "input": {"text": text, "thing": "lamp"}, "target": "glad"} for id, text in texts.items()
    ]
    write_task(root, task, train=train)


def test_rows_tasks_and_settings_are_compared(tmp_path: Path) -> None:
    tips = {**NOTES, "name": "tips"}
    old_tasks, new_tasks, out = tmp_path / "old", tmp_path / "new", tmp_path / "index"
    write_rows(old_tasks, NOTES, {"1": "one", "2": "two", "3": "three", "4": "four"})
    write_rows(old_tasks, REVIEWS, {"1": "one", "2": "two"})
    (old_tasks / "mood" / "family.toml").write_text('instruction = "Give the mood."\n', "utf-8")
    write_rows(new_tasks, {**NOTES, "labels": ["sad", "glad"]}, {"0": "no", "1": "one", "2": "TWO", "4": "four"})
    write_rows(new_tasks, tips, {"9": "nine"})
    (new_tasks / "mood" / "family.toml").write_text('instruction = "Tell the mood."\n', "utf-8")
    other = HashEncoder(salt="other")
    old = build_index(old_tasks, out).version
    new = build_index(new_tasks, out, other, dtype="float16").version

    diff = diff_versions(out, old[:12], "CURRENT")

    assert (diff.old, diff.new, diff.is_empty) == (old, new, False)
    assert diff.tasks == {
        "notes": TaskDiff(definition="changed", rows=rows_diff(added="0", changed="2", removed="3")),
        "reviews": TaskDiff(definition="removed", rows=rows_diff(removed="1 2")),
        "tips": TaskDiff(definition="added", rows=rows_diff(added="9")),
    }
    assert {item.path: (item.old, item.new) for item in diff.differences} == {
        "dtype": ("float32", "float16"),
        "encoder.fingerprint": (HashEncoder().fingerprint, other.fingerprint),
        "families.mood": ("Give the mood.", "Tell the mood."),
        "tasks.notes.task.labels": (["glad", "sad"], ["sad", "glad"]),
    }
    back = diff_versions(out, new, old)
    assert back.tasks["notes"].rows == rows_diff(added="3", changed="2", removed="0")
    assert [(item.path, item.new, item.old) for item in back.differences] == [
        (item.path, item.old, item.new) for item in diff.differences
    ]


def test_family_of_one_version_is_a_difference_and_a_task_is_none(tmp_path: Path) -> None:
    tasks, out = write_collection(tmp_path / "tasks"), tmp_path / "index"
    versions = [
        build_index(tasks, out, names=names).version for names in (("notes", "reviews"), ("notes",), ("questions",))
    ]

    task_removed, family_removed = (diff_versions(out, versions[0], new) for new in versions[1:])

    assert (task_removed.differences, task_removed.tasks["reviews"].definition) == ((), "removed")
    assert not task_removed.is_empty and "questions" not in task_removed.tasks
    assert family_removed.differences[0] == Difference(path="families.mood", old="Give the mood of the text.", new=None)


def test_other_wording_is_a_difference(root: Path, names: list[str]) -> None:
    same = diff_versions(root, "CURRENT", "CURRENT")
    assert same.is_empty and same.tasks["notes"] == TaskDiff(definition="same", rows=rows_diff())
    rewrite_manifest(root, wording="0123456789abcdef")

    (item,) = diff_versions(root, names[0], "CURRENT").differences

    assert (item.path, item.new) == ("wording", "0123456789abcdef")


@pytest.mark.parametrize(
    ("file", "message"),
    [("manifest.json", "the manifest is altered"), ("demonstrations.sqlite", "cannot be compared")],
)
def test_unreadable_version_is_refused(root: Path, names: list[str], file: str, message: str) -> None:
    (root / "versions" / names[0] / file).write_bytes(b"other")

    for pair in ((names[0], names[1]), (names[1], names[0])):
        with pytest.raises(ArtifactError, match=message):
            diff_versions(root, *pair)


Rows = Mapping[tuple[str, str], str]

# Ids that SQLite and Python might sort differently, and texts that look alike.
ROWS = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "10", "9", "Z", "z", "é", "😀", "\uffff", "a b"])),
    st.sampled_from(["", "x", "X", "1", "1.0"]),
)


def write_table(path: Path, rows: Rows) -> Path:
    path.unlink(missing_ok=True)
    values = [(task, position, id, row) for position, ((task, id), row) in enumerate(sorted(rows.items()))]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; {SCHEMA}")
        connection.executemany("INSERT INTO demonstrations VALUES (?, ?, ?, x'00', x'00', ?)", values)
    return path


def expected_diff(old: Rows, new: Rows, task: str) -> RowsDiff:
    before, after = ({id: row for (name, id), row in rows.items() if name == task} for rows in (old, new))

    def ids(values: set[str]) -> Ids:
        return Ids(len(values), tuple(sorted(values)))

    return RowsDiff(
        added=ids(after.keys() - before.keys()),
        changed=ids({id for id in before.keys() & after.keys() if before[id] != after[id]}),
        removed=ids(before.keys() - after.keys()),
    )


@settings(max_examples=40)
@given(old=ROWS, new=ROWS)
def test_rows_are_matched_by_task_and_id(tmp_path_factory: pytest.TempPathFactory, old: Rows, new: Rows) -> None:
    folder = tmp_path_factory.getbasetemp()

    diff = diff_rows(write_table(folder / "old.sqlite", old), write_table(folder / "new.sqlite", new), ["a", "b"])

    assert diff == {task: expected_diff(old, new, task) for task in ("a", "b")}
    assert all(diff[task].is_empty for task in diff) == (old == new)


def test_all_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    old = write_table(tmp_path / "old.sqlite", {("a", f"{number:03}"): "x" for number in range(200)})
    new = write_table(tmp_path / "new?#%.sqlite", {("a", f"{number:03}"): "y" for number in range(150, 400)})
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in (old, new)]

    diff = diff_rows(old, new, ["a"], limit=2)["a"]

    assert diff.added == Ids(200, ("200", "201"))
    assert diff.changed == Ids(50, ("150", "151"))
    assert diff.removed == Ids(150, ("000", "001"))
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in (old, new)] == before
    assert sorted(tmp_path.iterdir()) == sorted([old, new])


@pytest.mark.parametrize("content", [None, b"not a database", b""], ids=["missing", "other", "empty"])
def test_files_without_the_table_are_refused(tmp_path: Path, content: bytes | None) -> None:
    good, bad = write_table(tmp_path / "good.sqlite", {}), tmp_path / "bad.sqlite"
    if content is not None:
        bad.write_bytes(content)

    for old, new in ((good, bad), (bad, good)):
        with pytest.raises(ArtifactError, match=r"bad.sqlite.*: cannot be compared \(.*\); run: udr index verify"):
            diff_rows(old, new, ["a"])
