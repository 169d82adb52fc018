"""The rows of an index: they come out as they went in, and are never written to."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.demonstrations import SCHEMA, DemonstrationTable, copy_key, record, row_text, text_key
from udr.errors import ArtifactError
from udr.pool import Pool
from udr.tasks import parse_task
from udr.text import encoder_demonstration
from udr.types import Json, Row

TASK = parse_task(QUESTIONS)


def write_demonstrations(path: Path, pool: Pool) -> None:
    """Write a table as a build does."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    records = ((task, at, *rest) for at, (task, *rest) in enumerate(record(pool.task, row) for row in pool.rows))
    with connection:
        connection.executemany("INSERT INTO demonstrations VALUES (?, ?, ?, ?, ?, ?)", records)
    connection.close()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Anything but halves of surrogate pairs, which readers refuse.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(question=values, metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=3))
def test_rows_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, question: str, metadata: dict[str, Json]
) -> None:
    row = Row(id="\0 ' {x}", input={"question": question}, target="place", references=("a", "b"), metadata=metadata)
    path = tmp_path_factory.mktemp("rows") / "demonstrations.sqlite"
    write_demonstrations(path, Pool(TASK, (row,)))

    table = DemonstrationTable(path)

    assert table.rows("questions", [0]) == [row]
    assert table.row("questions", row.id) == row
    assert list(table.rows("questions", [0])[0].metadata) == list(metadata)
    table.close()


def rows(count: int) -> Pool:
    return Pool(TASK, tuple(Row(id=f"{n:03}", input={"question": f"Q {n}?"}, target="place") for n in range(count)))


def test_rows_are_found_by_position_id_and_copy_from_several_threads(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "d", rows(100))
    table = DemonstrationTable(tmp_path / "d")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: table.ids("questions", [n, 99, 0]), range(100)))

    assert found == [[f"{n:03}", "099", "000"] for n in range(100)]
    keys = [copy_key(TASK, {"question": question}) for question in ("q-7", "Q 8 ?!", "q < 9")]
    assert table.copies("questions", keys) == {"007", "008"}
    assert table.copies("other", keys) == set()
    assert table.row("questions", "100") is None
    with pytest.raises(ArtifactError, match="has no row at position 100"):
        table.ids("questions", [100])
    table.close()


def test_rows_are_found_by_what_an_encoder_reads_and_read_in_order(tmp_path: Path) -> None:
    pool = rows(25)
    twins = [Row(id=f"z{n}", input=pool.rows[3].input, target="place", metadata={"n": n}) for n in range(2)]
    write_demonstrations(tmp_path / "d", Pool(TASK, (*pool.rows, *twins)))
    table = DemonstrationTable(tmp_path / "d")

    keys = table.text_keys("questions", 0, 99)

    assert keys[3] == keys[25] == keys[26] == text_key(encoder_demonstration(TASK, pool.rows[3]))
    assert len(set(keys)) == 25
    assert table.text_keys("questions", 3, 5) == keys[3:5]
    assert [table.first(key) for key in keys] == [("questions", at) for at in (*range(25), 3, 3)]
    assert table.first(keys[3], "questions") == ("questions", 3)
    assert table.first(keys[3], "other") is table.first(b"no such key") is None
    assert list(table.lines("questions")) == [b"\n" + row_text(row).encode() for row in (*pool.rows, *twins)]
    table.close()


def test_the_table_is_never_written_to(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "d", rows(1))
    table = DemonstrationTable(tmp_path / "d")

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        table._connection.execute("DELETE FROM demonstrations")
    table.close()


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"not a database, but long enough to look at" * 100)

    with pytest.raises(ArtifactError, match="no-file: cannot be read"):
        DemonstrationTable(tmp_path / "no-file")
    table = DemonstrationTable(tmp_path / "junk")
    with pytest.raises(ArtifactError, match=r"junk: cannot be read \(file is not a database\)"):
        table.row("questions", "1")
    table.close()
