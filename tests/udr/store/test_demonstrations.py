"""The rows of an index: they come out as they went in, and are never written to."""

import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.data import Pool, copy_key, encoder_demonstration, parse_task, row_text, text_key
from udr.errors import ArtifactError
from udr.retrieval import RetrievedDemonstration
from udr.store import SCHEMA, DemonstrationTable, record
from udr.types import Json, Row, TokenCount

TASK = parse_task(QUESTIONS)


def write_demonstrations(path: Path, pool: Pool, counts: Mapping[int, int] = MappingProxyType({})) -> None:
    """Write a table as a build does, with the token counts of some positions."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    records = ((task, at, *rest) for at, (task, *rest) in enumerate(record(pool.task, row) for row in pool.rows))
    with connection:
        connection.executemany("INSERT INTO demonstrations VALUES (?, ?, ?, ?, ?, ?)", records)
        tokens = ((pool.task.name, *count) for count in counts.items())
        connection.executemany("INSERT INTO tokens VALUES (?, ?, ?)", tokens)
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


def test_rows_come_with_their_token_counts_in_one_select(tmp_path: Path) -> None:
    pool = rows(4)
    write_demonstrations(tmp_path / "d", pool, {0: 5, 1: 1000, 3: 7})
    table = DemonstrationTable(tmp_path / "d", "fingerprint")
    statements = list[str]()
    table._connection.set_trace_callback(statements.append)

    found = table.counted_rows("questions", [3, 2, 0, 3])

    assert len(statements) == 1
    assert [row for row, _ in found] == [pool.rows[at] for at in (3, 2, 0, 3)]
    seven = TokenCount(tokenizer="fingerprint", count=7)
    assert [count for _, count in found] == [seven, None, TokenCount(tokenizer="fingerprint", count=5), seven]
    keys = table.text_keys("questions", 0, 4)
    assert table.token_counts("questions", [*keys, b"no such key"]) == {keys[0]: 5, keys[1]: 1000, keys[3]: 7}
    assert table.token_counts("other", keys) == {}
    table.close()


def test_a_table_without_a_tokenizer_knows_no_counts(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "d", rows(2))
    table = DemonstrationTable(tmp_path / "d")

    assert table.counted_rows("questions", [1, 0]) == [(rows(2).rows[1], None), (rows(2).rows[0], None)]
    assert table.token_counts("questions", table.text_keys("questions", 0, 2)) == {}
    table.close()


def test_a_demonstration_shows_its_token_count_where_it_is_known() -> None:
    plain = RetrievedDemonstration(
        id="1", task="questions", similarity=0.5, rank=1, input={"question": "Q?"}, target="place", text="Q?\nplace"
    )

    assert "tokens" not in plain.to_json()
    counted = replace(plain, tokens=TokenCount(tokenizer="fingerprint", count=3))
    assert counted.to_json() == {**plain.to_json(), "tokens": {"tokenizer": "fingerprint", "count": 3}}


@given(targets=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=25))
def test_targets_are_those_of_all_rows_in_order(
    tmp_path_factory: pytest.TempPathFactory, targets: Sequence[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "demonstrations.sqlite"
    decoy: dict[str, Json] = {"target": "not this"}
    pool = [Row(id=f"{n:03}", input={"question": "Q?"}, target=one, metadata=decoy) for n, one in enumerate(targets)]
    write_demonstrations(path, Pool(TASK, tuple(pool)))
    table = DemonstrationTable(path)

    with pytest.MonkeyPatch.context() as patch:
        # Spans end in the middle, at the end, and one after it.
        patch.setattr("udr.store.demonstrations._SPAN", 5)
        assert table.targets("questions") == targets
    assert table.targets("other") == []
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
