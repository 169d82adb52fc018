"""Filters: from JSON and from text, row by row and over columns."""

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr import Filter, Row
from udr.data import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, Column, Condition, Range
from udr.errors import InvalidInputError

MEANINGS: dict[str, dict[str, Any]] = {
    'site = "imdb" and stars >= 3': {"must": [{"key": "site", "match": "imdb"}, {"key": "stars", "range": {"gte": 3}}]},
    'a != 1 and b = true AND "my field" < -2.5e1': {
        "must": [{"key": "b", "match": True}, {"key": "my field", "range": {"lt": -25.0}}],
        "must_not": [{"key": "a", "match": 1}],
    },
    'a = 1 or b > "2024-05" and c <= 1': {
        "should": [
            {"key": "a", "match": 1},
            {"must": [{"key": "b", "range": {"gt": "2024-05"}}, {"key": "c", "range": {"lte": 1}}]},
        ]
    },
    '(a = 1 or not b exists) and $task not in ["x", "y\\n\\u00e9"]': {
        "must": [{"should": [{"key": "a", "match": 1}, {"must_not": [{"key": "b", "exists": True}]}]}],
        "must_not": [{"key": "$task", "any": ["x", "y\né"]}],
    },
    "account = 9007199254740993": {"must": [{"key": "account", "match": 9007199254740993}]},
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_text_is_the_json_that_it_stands_for(text: str) -> None:
    assert Filter.of(text) == Filter.of(MEANINGS[text])
    assert Filter.of(text).to_json() == MEANINGS[text]
    assert Filter.of(f" {json.dumps(MEANINGS[text])}") == Filter.of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1: expected the name of a field; found the end"),
        ("a = imdb", r"at character 5: expected a value: text in double quotes \(\"imdb\"\)"),
        ("a = 1 b", "at character 7: expected 'and', 'or' or the end; found 'b'"),
        ("(a = 1", r"at character 7: expected '\)'"),
        ("a ~ 1", "at character 3: expected one of =, !=,"),
        ('a in "x"', "expected a list in brackets"),
        ("a in [1", "expected ',' or ']'"),
        ('a = "\\q"', "expected text as in JSON"),
        ("a < true", "all numbers or all texts"),
        ("$price = 1", "those that begin with \\$ are"),
        ("not " * 20 + "a exists", f"nested at most {MAX_DEPTH} deep"),
        ("a = 1 and " * MAX_CONDITIONS + "a = 1", f"at most {MAX_CONDITIONS} conditions"),
        (f"a in [{', '.join(['1'] * (MAX_VALUES + 1))}]", f"at most {MAX_VALUES} values"),
        ("a" * 70_000, "characters, found 70000"),
        ("{" + "a" * 70_000, "characters, found 70001"),
        ('{"must": [', "begins with { and is not JSON: Expecting value"),
        ('{"must": []} or', "begins with { and is not JSON: Extra data"),
        ('{"must": [{"key": "a", "match": 1}], "must": []}', "an object has a duplicate key, among 'must', 'must'"),
        ('{"must": [{"key": "a", "match": NaN}]}', "values must be text, finite numbers"),
        ('{"must":[' * 5_000, "begins with { and is not JSON"),
        ("a" * 300 + " = 1", "a filter's key has at most 256 characters, found 300"),
    ],
)
def test_a_text_that_is_no_filter_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Filter.of(text)


def nested(levels: int) -> dict[str, Any]:
    return {"must": [nested(levels - 1)]} if levels > 1 else {"must": [{"key": "a", "match": 1}]}


@pytest.mark.parametrize(
    ("json", "message"),
    [
        (3, "a filter must be an object"),
        ({"all": []}, "a filter has no key 'all'; the keys are must, should, must_not"),
        ({"must": {"key": "a", "match": 1}}, "must of a filter must be a list"),
        ({"must": [{"key": "a", "match": 1, "like": 2}]}, "a condition has no key 'like'"),
        ({"must": [{"key": "a"}]}, "needs one of match, any, range and exists"),
        ({"must": [{"key": "a", "match": 1, "exists": True}]}, "needs one of match, any, range and exists"),
        ({"must": [{"key": "", "match": 1}]}, "must be the name of a field"),
        ({"must": [{"key": "a", "match": {}}]}, "values must be text, finite numbers or booleans"),
        ({"must": [{"key": "a", "match": float("nan")}]}, "values must be text, finite numbers or booleans"),
        (
            {"must": [{"key": "a", "any": []}]},
            "any must be a tuple of values, or in JSON a list, and not empty; found \\(\\)",
        ),
        ({"must": [{"key": "a", "any": "xy"}]}, "any of a condition must be a list"),
        ({"must": [{"key": "a", "range": {}}]}, "a range needs at least one of gt, gte, lt, lte"),
        ({"must": [{"key": "a", "range": {"gt": 1, "lt": "z"}}]}, "all numbers or all texts"),
        ({"must": [{"key": "a", "range": 3}]}, "a range must be an object"),
        ({"must": [{"key": "a", "exists": 1}]}, "exists must be true or false"),
        (nested(MAX_DEPTH + 1), f"nested at most {MAX_DEPTH} deep"),
        ({"must": [{"must": [{"key": "a", "match": 1}] * 33}] * 2}, f"at most {MAX_CONDITIONS} conditions, found 66"),
    ],
)
def test_json_that_is_no_filter_is_refused(json: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Filter.of(json)
    assert Filter.of(nested(MAX_DEPTH))


@pytest.mark.parametrize("values", [["x"], (), "x"])
def test_any_is_a_tuple_and_not_empty(values: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"any must be a tuple of values, .* and not empty; found"):
        Condition(key="a", any=values)


def passing(text: str, **metadata: Any) -> bool:
    return Filter.of(text).matches("notes", Row(id="7", input={}, target="glad", metadata=metadata))


def test_kinds_are_kept_apart_and_numbers_are_exact() -> None:
    assert passing("a = 1", a=1.0) and not passing("a = 1", a=True) and not passing("a = 1", a="1")
    assert passing("a = true", a=True) and not passing("a = true", a=1)
    assert not passing("a = 9007199254740993", a=9007199254740992)
    assert not passing("a < 3", a="2") and passing('a < "3"', a="2")


def test_lists_pass_by_one_value_and_what_is_absent_passes_nothing() -> None:
    assert passing('a = "x"', a=["y", "x"]) and passing("a > 2", a=[1, 3])
    absent: list[dict[str, Any]] = [{}, {"a": None}, {"a": []}]
    for metadata in absent:
        assert (
            not passing("a = 1", **metadata) and passing("a != 1", **metadata) and passing("not a exists", **metadata)
        )
    assert passing("a exists", a={"b": 1}) and not passing("a = 1", a={"b": 1})


def test_a_rows_own_task_target_and_id_are_keys() -> None:
    assert passing('$task = "notes" and $target = "glad" and $id in ["6", "7"]', **{"$id": "8"})
    assert not passing('$task = "n"') and not passing('$target = "sad"')


FILTERS = ["a = 1", "not b = 1", "a = 1 or b = 1", "b = 2 and not (a = 2 or c = 1)", "a = 2 or c = 2"]


@pytest.mark.parametrize("first", FILTERS)
@pytest.mark.parametrize("second", FILTERS)
def test_a_narrowed_filter_lets_pass_what_passes_both(first: str, second: str) -> None:
    both, texts = Filter.of(first).narrowed(Filter.of(second)), (first, second)
    for a, b, c in product((1, 2), repeat=3):
        row = Row(id="r", input={}, target="", metadata={"a": a, "b": b, "c": c})
        assert both.matches("t", row) == all(Filter.of(text).matches("t", row) for text in texts)


def test_an_empty_filter_lets_all_pass() -> None:
    assert Filter().matches("notes", Row(id="7", input={}, target="glad"))
    assert Filter.of({"must": None, "should": []}) == Filter()


_SCALARS = st.sampled_from(["", "a", "b", "1", 0, 1, 2.5, -1, True, False, 2**60, 2**60 + 1, 1e300])
_VALUES = st.one_of(st.none(), _SCALARS, st.lists(_SCALARS, max_size=3), st.just({"a": 1}), st.just([None, {}]))
_BOUNDS = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from([0, 1, 2.5, 2**60]), min_size=1)
_TESTS = st.one_of(
    st.builds(lambda value: Condition(key="f", match=value), _SCALARS),
    st.builds(lambda values: Condition(key="f", any=tuple(values)), st.lists(_SCALARS, min_size=1, max_size=4)),
    st.builds(lambda bounds: Condition(key="f", range=Range(**bounds)), _BOUNDS),
    st.builds(lambda bound: Condition(key="f", range=Range(gte=bound)), st.sampled_from(["", "a", "b"])),
    st.builds(lambda value: Condition(key="f", exists=value), st.booleans()),
)


@given(st.lists(_VALUES, max_size=12), _TESTS)
def test_a_column_answers_as_its_rows_do(values: list[Any], condition: Condition) -> None:
    rows = [Row(id=str(n), input={}, target="t", metadata={"f": value}) for n, value in enumerate(values)]
    expected = [condition.matches("t", row) for row in rows]
    np.testing.assert_array_equal(Column(values).mask(condition), np.array(expected, bool))
    assert Condition.of(condition.to_json()) == condition
