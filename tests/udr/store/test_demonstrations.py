"""The rows of an index: they round-trip, and are never written to."""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.data import Pool, copy_key, encoder_demonstration, parse_task, row_text, text_key
from udr.errors import ArtifactError
from udr.store import SCHEMA, DemonstrationTable, read_only_uri, record
from udr.types import Json, Row, TokenCount

TASK = parse_task(QUESTIONS)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def write_table(
    path: Path, rows: Sequence[Row], counts: Mapping[int, int] = MappingProxyType({}), span: int = 10_000
) -> DemonstrationTable:
    """Write a table as a build does, with the token counts of some positions, and open it."""
    pool = Pool(TASK, tuple(rows))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(SCHEMA)
    records = [record(TASK, row, encoder_demonstration(TASK, row)) for row in pool.rows]
    with connection:
        connection.executemany(
            "INSERT INTO demonstrations VALUES (?, ?, ?, ?, ?, ?)",
            [(task, position, *rest) for position, (task, *rest) in enumerate(records)],
        )
        connection.executemany("INSERT INTO tokens VALUES (?, ?, ?)", [(TASK.name, *item) for item in counts.items()])
    connection.close()
    return DemonstrationTable(path, span=span)


def questions(count: int) -> list[Row]:
    return [Row(id=f"{n:03}", input={"question": f"Q {n}?"}, target="place") for n in range(count)]


def traced_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the statements of connections that are opened from now on."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: str, **options: bool) -> sqlite3.Connection:
        connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", traced)
    return statements


@settings(max_examples=25)
@given(question=VALUES, metadata=st.dictionaries(TEXT, VALUES, max_size=3))
def test_rows_round_trip(tmp_path_factory: pytest.TempPathFactory, question: str, metadata: dict[str, Json]) -> None:
    row = Row(id="\0 ' {x}", input={"question": question}, target="place", references=("a", "b"), metadata=metadata)
    table = write_table(tmp_path_factory.mktemp("rows") / "d", [row])
    assert table.rows("questions", [0]) == [row]
    assert table.row("questions", row.id) == row
    assert list(table.rows("questions", [0])[0].metadata) == list(metadata)
    table.close()


def test_rows_are_found_by_position_id_and_copy_from_several_threads(tmp_path: Path) -> None:
    table = write_table(tmp_path / "d", questions(100))
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: table.ids("questions", [n, 99, 0]), range(100)))
    assert ids == [[f"{n:03}", "099", "000"] for n in range(100)]
    keys = [copy_key(TASK, {"question": question}) for question in ("q-7", "Q 8 ?!", "q < 9")]
    assert table.copies("questions", keys) == {7: "007", 8: "008"}
    assert table.copies("other", keys) == {}
    assert table.positions("questions", ["099", "000", "no", "003\0", "\ud800"]) == {0: "000", 99: "099"}
    assert table.row("questions", "100") is None
    with pytest.raises(ArtifactError, match="has no row at position 100"):
        table.ids("questions", [100])
    table.close()


def test_rows_are_found_by_text_key_and_read_in_order(tmp_path: Path) -> None:
    rows = questions(25)
    rows += [replace(rows[3], id=f"z{n}", metadata={"n": n}) for n in range(2)]
    table = write_table(tmp_path / "d", rows)
    keys = table.text_keys("questions", 0, 99)
    assert keys[3] == keys[25] == keys[26] == text_key(encoder_demonstration(TASK, rows[3]))
    assert len(set(keys)) == 25
    assert table.text_keys("questions", 3, 5) == keys[3:5]
    assert [table.first(key) for key in keys] == [("questions", position) for position in (*range(25), 3, 3)]
    assert table.first(keys[3], "questions") == ("questions", 3)
    assert table.first(keys[3], "other") is table.first(b"no such key") is None
    assert list(table.lines("questions")) == [b"\n" + row_text(row).encode() for row in rows]
    table.close()


@pytest.mark.parametrize(("length", "spans"), [(1, [64, 10_000]), (300_000, [64, 26, 26])])
def test_of_long_rows_few_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, spans: list[int]
) -> None:
    read, rows = traced_statements(monkeypatch), [replace(row, target="x" * length) for row in questions(100)]
    table = write_table(tmp_path / "d", rows)
    read.clear()
    assert list(table.every("questions")) == rows
    bounds = [re.search(r"position >= (\d+) AND position < (\d+)", statement) for statement in read]
    assert [int(found[2]) - int(found[1]) for found in bounds if found] == spans
    table.close()


def test_rows_come_with_token_counts_in_one_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = questions(4)
    write_table(tmp_path / "d", rows, {0: 5, 1: 1000, 3: 7}).close()
    statements = traced_statements(monkeypatch)
    table = DemonstrationTable(tmp_path / "d", "fingerprint")

    statements.clear()
    counted = table.counted_rows("questions", [3, 2, 0, 3])

    assert len(statements) == 1
    assert [row for row, _ in counted] == [rows[n] for n in (3, 2, 0, 3)]
    five, seven = (TokenCount(tokenizer="fingerprint", count=count) for count in (5, 7))
    assert [count for _, count in counted] == [seven, None, five, seven]
    keys = table.text_keys("questions", 0, 4)
    assert table.token_counts("questions", [*keys, b"no such key"]) == {keys[0]: 5, keys[1]: 1000, keys[3]: 7}
    assert table.token_counts("other", keys) == {}
    table.close()
    with_no_tokenizer = DemonstrationTable(tmp_path / "d")
    assert with_no_tokenizer.counted_rows("questions", [1, 0]) == [(rows[1], None), (rows[0], None)]
    with_no_tokenizer.close()


@settings(max_examples=25)
@given(targets=st.lists(TEXT, min_size=1, max_size=25))
def test_targets_are_those_of_all_rows_in_order(
    tmp_path_factory: pytest.TempPathFactory, targets: Sequence[str]
) -> None:
    metadata: dict[str, Json] = {"target": "not this"}
    rows = [replace(row, target=t, metadata=metadata) for row, t in zip(questions(99), targets, strict=False)]
    # Spans end in the middle, at the end, and one after it.
    table = write_table(tmp_path_factory.mktemp("rows") / "d", rows, span=5)
    assert table.targets("questions") == targets
    assert table.targets("other") == []
    table.close()


def test_a_table_is_read_only_and_other_files_are_errors(tmp_path: Path) -> None:
    write_table(tmp_path / "d", questions(1)).close()
    connection = sqlite3.connect(read_only_uri(tmp_path / "d"), uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM demonstrations")
    connection.close()
    (tmp_path / "junk").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(ArtifactError, match="no-file: cannot be read"):
        DemonstrationTable(tmp_path / "no-file")
    with pytest.raises(ArtifactError, match=r"junk: cannot be read \(file is not a database\)"):
        DemonstrationTable(tmp_path / "junk")


@pytest.mark.parametrize(
    ("column", "read"),
    [
        ("id", lambda table: table.ids("questions", [0])),
        ("id", lambda table: table.copies("questions", [b"key"])),
        ("row", lambda table: table.rows("questions", [0])),
        ("text_key", lambda table: table.text_keys("questions", 0, 9)),
        ("position", lambda table: table.first(b"text")),
        ("count", lambda table: table.token_counts("questions", [b"text"])),
        ("count", lambda table: table.counted_rows("questions", [0])),
    ],
)
def test_a_value_of_another_type_is_an_error(
    tmp_path: Path, column: str, read: Callable[[DemonstrationTable], object]
) -> None:
    values: dict[str, object] = {
        "task": "questions",
        "position": 0,
        "id": "a",
        "copy_key": b"key",
        "text_key": b"text",
        "row": row_text(questions(1)[0]),
        "count": 3,
    }
    values[column] = 7.5
    with closing(sqlite3.connect(tmp_path / "d")) as connection, connection:
        # Without types, SQLite keeps each value as it is; then the schema says that the columns had types.
        connection.executescript(re.sub(r" (TEXT|INTEGER|BLOB)\b", "", SCHEMA))
        *columns, count = values
        connection.execute("INSERT INTO demonstrations VALUES (?, ?, ?, ?, ?, ?)", [values[name] for name in columns])
        connection.execute("INSERT INTO tokens VALUES (?, ?, ?)", [values[n] for n in ("task", "position", count)])
        with closing(sqlite3.connect(":memory:")) as typed:
            typed.executescript(SCHEMA)
            schema = typed.execute("SELECT sql, name FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ?", schema)
    table = DemonstrationTable(tmp_path / "d", "tokenizer")
    with closing(table), pytest.raises(ArtifactError, match=f"the column {column} has a value of another type"):
        read(table)
