"""Two tables of rows compared by SQLite, against the same done with dictionaries."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udr.errors import ArtifactError
from udr.store import SCHEMA
from udr_index.versions import Ids, RowsDiff, diff_rows

Rows = Mapping[tuple[str, str], str]

# Ids that SQLite and Python could put in different orders, and texts that look alike.
ROWS = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "10", "9", "Z", "z", "é", "😀", "\uffff", "a b"])),
    st.sampled_from(["", "x", "X", "1", "1.0"]),
)


def write(path: Path, rows: Rows) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.executescript(SCHEMA)
        for position, ((task, id), row) in enumerate(sorted(rows.items())):
            values = {"task": task, "position": position, "id": id, "row": row}
            connection.execute(
                "INSERT INTO demonstrations (task, position, id, copy_key, text_key, row) "
                "VALUES (:task, :position, :id, x'00', x'00', :row)",
                values,
            )
    return path


def expected(old: Rows, new: Rows, task: str) -> RowsDiff:
    before, after = ({id: row for (name, id), row in rows.items() if name == task} for rows in (old, new))

    def ids(found: set[str]) -> Ids:
        return Ids(len(found), tuple(sorted(found)))

    return RowsDiff(
        added=ids(after.keys() - before.keys()),
        changed=ids({id for id in before.keys() & after.keys() if before[id] != after[id]}),
        removed=ids(before.keys() - after.keys()),
    )


@settings(max_examples=50)
@given(old=ROWS, new=ROWS)
def test_rows_are_matched_by_task_and_id(tmp_path_factory: pytest.TempPathFactory, old: Rows, new: Rows) -> None:
    folder = tmp_path_factory.getbasetemp()

    found = diff_rows(write(folder / "old.sqlite", old), write(folder / "new.sqlite", new), ["a", "b"])

    assert found == {task: expected(old, new, task) for task in ("a", "b")}
    assert all(found[task].is_empty for task in found) == (old == new)


def test_all_are_counted_and_only_the_first_named(tmp_path: Path) -> None:
    old = write(tmp_path / "old.sqlite", {("a", f"{number:03}"): "x" for number in range(200)})
    new = write(tmp_path / "new?#%.sqlite", {("a", f"{number:03}"): "y" for number in range(150, 400)})

    found = diff_rows(old, new, ["a"], limit=2)["a"]

    assert found.added == Ids(200, ("200", "201"))
    assert found.changed == Ids(50, ("150", "151"))
    assert found.removed == Ids(150, ("000", "001"))


def test_neither_file_is_written_to(tmp_path: Path) -> None:
    old, new = files = [write(tmp_path / name, {("a", "1"): name}) for name in ("old.sqlite", "new.sqlite")]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]

    assert diff_rows(old, new, ["a"])["a"].changed == Ids(1, ("1",))

    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
    assert sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("content", [None, b"not a database", b""], ids=["missing", "other", "empty"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    good, bad = write(tmp_path / "good.sqlite", {}), tmp_path / "bad.sqlite"
    if content is not None:
        bad.write_bytes(content)

    for old, new in ((good, bad), (bad, good)):
        with pytest.raises(ArtifactError, match=r"bad.sqlite.*: cannot be compared \(.*\); run: udr index verify"):
            diff_rows(old, new, ["a"])
