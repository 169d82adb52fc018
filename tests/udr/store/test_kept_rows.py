"""The rows that stay in memory: which ones, and that no one changes another's."""

from typing import Any, cast

from udr.store.rows import KeptRows
from udr.types import Row, TokenCount


def row(id: str) -> Row:
    return Row(id=id, input={"question": "Where?", "words": ["a", "b"]}, target="place", metadata={"of": {"page": 1}})


def test_the_rows_asked_for_last_are_kept_within_the_bound() -> None:
    kept = KeptRows(characters=30)
    for position, id in enumerate("abc"):
        kept.keep("questions", position, row(id), TokenCount(tokenizer="t", count=position), 10)
    assert kept.get("questions", [2, 0, 7]) == {
        2: (row("c"), TokenCount(tokenizer="t", count=2)),
        0: (row("a"), TokenCount(tokenizer="t", count=0)),
    }
    kept.keep("questions", 3, row("d"), None, 10)
    assert kept.ids("questions", range(9)) == {0: "a", 2: "c", 3: "d"}
    kept.keep("other", 0, row("e"), None, 20)
    assert kept.ids("questions", range(9)) == {3: "d"}
    assert kept.ids("other", range(9)) == {0: "e"}
    kept.keep("questions", 4, row("too long"), None, 31)
    assert kept.ids("questions", range(9)) == {3: "d"}


def test_a_row_that_is_kept_twice_counts_once() -> None:
    kept = KeptRows(characters=20)
    for _ in range(5):
        kept.keep("questions", 0, row("a"), None, 10)
    kept.keep("questions", 1, row("b"), None, 10)
    assert kept.ids("questions", range(9)) == {0: "a", 1: "b"}


def test_no_one_can_change_what_others_get() -> None:
    kept, given = KeptRows(), row("a")
    kept.keep("questions", 0, given, None, 10)
    change(given)
    for _ in range(2):
        found, _ = kept.get("questions", [0])[0]
        assert found == row("a")
        change(found)


def change(row: Row) -> None:
    values, metadata = cast("dict[str, Any]", row.input), cast("dict[str, Any]", row.metadata)
    values["words"].append("c")
    values["question"] = "Who?"
    metadata["of"]["page"] = 2
