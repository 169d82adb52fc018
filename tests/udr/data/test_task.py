"""``task.toml`` and templates: what is read, and every key that is refused by name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.data import Kind, Metric, Normalise, TaskFamily, Template, parse_family, parse_task
from udr.errors import DataError

FULL: dict[str, Any] = {
    **QUESTIONS,
    "normalise": "mean",
    "verbalizer": {"place": "somewhere", "person": "someone"},
}


def test_a_task_is_read_as_written() -> None:
    task = parse_task({**FULL, "source": {"anything": ["goes", 1]}})

    assert (task.name, task.family, task.kind, task.metric) == (
        "questions",
        "topic",
        Kind.CLASSIFICATION,
        Metric.ACCURACY,
    )
    assert task.fields == ("question",)
    assert task.labels == ("place", "person", "number")
    assert task.normalise is Normalise.MEAN
    assert task.verbalizer == {"place": "somewhere", "person": "someone"}


@pytest.mark.parametrize("keys", [FULL, QUESTIONS], ids=["full", "least"])
def test_a_task_comes_back_from_its_json(keys: dict[str, Any]) -> None:
    task = parse_task(keys)

    assert parse_task(task.to_json()) == task
    assert task.to_json() == keys


MISSING = object()
BAD_KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "name missing": ({"name": MISSING}, "field 'name': is missing"),
    "name in capitals": ({"name": "Questions"}, "field 'name': must contain only a-z, 0-9, _ and -, found 'Questions'"),
    "name with a slash": ({"name": "../x"}, "field 'name': must contain only"),
    "name with a newline": ({"name": "x\n"}, "field 'name': must contain only"),
    "family empty": ({"family": " "}, "field 'family': must be a non-empty string"),
    "kind unknown": ({"kind": "ranking"}, "field 'kind': must be one of classification, multiple_choice, generation"),
    "instruction missing": ({"instruction": MISSING}, "field 'instruction': is missing"),
    "instruction a number": ({"instruction": 3}, "field 'instruction': must be a non-empty string, found 3"),
    "metric unknown": ({"metric": "f1"}, "field 'metric': must be one of accuracy, .*, found 'f1'"),
    "input without a field": ({"input": "Question:"}, "field 'input': must contain at least one {field}"),
    "output without target": ({"output": "Answer:"}, "field 'output': must contain {target} once"),
    "output with two targets": ({"output": "{target} {target}"}, "field 'output': must contain {target} once"),
    "output with another field": ({"output": "{target} {question}"}, "field 'output': .* no other field"),
    "labels missing": ({"labels": MISSING}, "field 'labels': must be a list of non-empty strings, found None"),
    "labels not a list": ({"labels": "place"}, "field 'labels': must be a list of non-empty strings"),
    "one label": ({"labels": ["place"]}, "field 'labels': must be at least two different"),
    "a label twice": ({"labels": ["place", "place"]}, "field 'labels': .* different labels"),
    "labels of a generation task": ({"kind": "generation"}, "field 'labels': are only for classification tasks"),
    "normalise unknown": ({"normalise": "max"}, "field 'normalise': must be one of sum, mean, found 'max'"),
    "verbalizer for no label": ({"verbalizer": {"x": "y"}}, "field 'verbalizer': 'x' is not one of the labels"),
    "verbalizer of numbers": ({"verbalizer": {"place": 1}}, "field 'verbalizer': must be a table"),
    "verbalizer making labels equal": ({"verbalizer": {"place": "person"}}, "two labels have the same text"),
    "key unknown": ({"labelz": []}, "field 'labelz': unknown key; the known keys are name, family"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_is_refused_with_file_and_key(name: str) -> None:
    changes, message = BAD_KEYS[name]
    keys = {key: value for key, value in {**QUESTIONS, **changes}.items() if value is not MISSING}

    with pytest.raises(DataError, match=message.replace("{", r"\{")) as caught:
        parse_task(keys, Path("a/task.toml"))
    assert str(caught.value).startswith("a/task.toml: ")
    assert "\n" not in str(caught.value)
    assert caught.value.field is not None


def test_a_family_is_its_instruction_and_nothing_else() -> None:
    assert parse_family({"instruction": "Do."}, "mood") == TaskFamily("mood", "Do.")
    with pytest.raises(DataError, match="field 'name': unknown key; the known keys are instruction"):
        parse_family({"instruction": "Do.", "name": "mood"}, "mood")
    with pytest.raises(DataError, match="field 'instruction': is missing"):
        parse_family({}, "mood")


@given(a=st.text(), b=st.text())
def test_values_are_inserted_once_and_verbatim(a: str, b: str) -> None:
    assert Template("{a}|{b}|{a}").render({"a": a, "b": b}) == f"{a}|{b}|{a}"


@pytest.mark.parametrize("source", ['{"json": [1]} {}', "\\frac{1}{2} {a b}", "{{a-b}}", "{ a }", "{0}", "%s {a!r}"])
def test_braces_that_enclose_no_name_are_ordinary(source: str) -> None:
    assert Template(source).fields == ()
    assert Template(source).render({}) == source


def test_doubled_braces_hold_a_field() -> None:
    assert Template("{{a}}").render({"a": "1"}) == "{1}"
