"""``task.toml`` and templates: valid files, and an error for every invalid key."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.data import Kind, Metric, Normalise, TaskFamily, Template, input_text, parse_family, parse_row, parse_task
from udr.errors import DataError

FULL: dict[str, Any] = {**QUESTIONS, "normalise": "mean", "verbalizer": {"place": "somewhere", "person": "someone"}}


def test_a_task_has_the_values_of_its_file() -> None:
    task = parse_task({**FULL, "source": {"anything": ["goes", 1]}})
    assert (task.name, task.family) == ("questions", "topic")
    assert (task.kind, task.metric, task.normalise) == (Kind.CLASSIFICATION, Metric.ACCURACY, Normalise.MEAN)
    assert task.fields == ("question",)
    assert task.labels == ("place", "person", "number")
    assert task.verbalizer == {"place": "somewhere", "person": "someone"}


@pytest.mark.parametrize("keys", [FULL, QUESTIONS], ids=["full", "least"])
def test_a_task_equals_the_task_of_its_json(keys: dict[str, Any]) -> None:
    task = parse_task(keys)
    assert parse_task(task.to_json()) == task
    assert task.to_json() == keys


MISSING = object()
ONLY_TARGET = "must contain {target} once and no other field"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *((key, MISSING, "is missing") for key in ("name", "instruction")),
        ("name", "Questions", "must contain only a-z, 0-9, _ and -, found 'Questions'"),
        *(("name", name, "must contain only") for name in ("../x", "x\n")),
        ("family", " ", "must be a non-empty string"),
        ("kind", "ranking", "must be one of classification, multiple_choice, generation, found 'ranking'"),
        ("instruction", 3, "must be a non-empty string, found 3"),
        ("metric", "f1", "must be one of accuracy, exact_match, final_answer, rouge_l, bleu, sari, found 'f1'"),
        ("input", "Question:", "must contain at least one {field}"),
        *(("output", text, ONLY_TARGET) for text in ("Answer:", "{target} {target}", "{target} {question}")),
        ("labels", MISSING, "must be a list of non-empty strings, found None"),
        ("labels", "place", "must be a list of non-empty strings"),
        *(("labels", [*labels], "must be at least two different labels") for labels in (["place"], ["place"] * 2)),
        ("normalise", "max", "must be one of sum, mean, found 'max'"),
        ("verbalizer", {"x": "y"}, "'x' is not one of the labels"),
        ("verbalizer", {"place": 1}, "must be a table"),
        ("verbalizer", {"place": "person"}, "two labels have the same text"),
        ("labelz", [], "unknown key; the known keys are name, family"),
    ],
)
def test_an_invalid_key_is_an_error_with_file_and_key(key: str, value: object, message: str) -> None:
    keys = {**QUESTIONS, key: value}
    if value is MISSING:
        del keys[key]
    with pytest.raises(DataError, match=re.escape(f"a/task.toml: field {key!r}: {message}")) as caught:
        parse_task(keys, Path("a/task.toml"))
    assert "\n" not in str(caught.value)
    assert caught.value.field == key


@pytest.mark.parametrize("name", ["product name", "größe-1", "名前", "a.b/c", "user's #1 item (new)", "_", "x1"])
def test_a_template_takes_any_name_that_a_column_has(name: str) -> None:
    task = parse_task({**QUESTIONS, "input": f'A: {{{name}}} {{}} {{2}} {{{{2,3}}}} {{"k": 1}}'})
    assert task.fields == (name,)
    assert input_text(task, {name: "value"}) == 'A: value {} {2} {{2,3}} {"k": 1}'
    row = {"id": "1", "input": {"other": 1}, "target": "place"}
    with pytest.raises(DataError, match=re.escape(f"field {f'input.{name}'!r}: is missing, ") + ".*found 'other'"):
        parse_row(task, row)


@pytest.mark.parametrize("name", ["1", 'a "b"', "a\\b"])
def test_a_field_that_no_template_can_name_is_an_error(name: str) -> None:
    task = parse_task({**QUESTIONS, "input": f"A: {{question}} {{{name}}}"})
    with pytest.raises(DataError, match="is not a name that a template can use; rename it"):
        parse_row(task, {"id": "1", "input": {"question": "?", name: 1}, "target": "place"})


def test_a_generation_task_has_no_labels() -> None:
    with pytest.raises(DataError, match="field 'labels': are only for classification tasks"):
        parse_task({**QUESTIONS, "kind": "generation"})


def test_a_family_has_only_an_instruction() -> None:
    assert parse_family({"instruction": "Do."}, "mood") == TaskFamily("mood", "Do.")
    with pytest.raises(DataError, match="field 'name': unknown key; the known keys are instruction"):
        parse_family({"instruction": "Do.", "name": "mood"}, "mood")
    with pytest.raises(DataError, match="field 'instruction': is missing"):
        parse_family({}, "mood")


@given(a=st.text(), b=st.text())
def test_values_are_inserted_once_and_verbatim(a: str, b: str) -> None:
    assert Template("{a}|{b}|{{a}}").render({"a": a, "b": b}) == f"{a}|{b}|{{{a}}}"


@pytest.mark.parametrize("source", ['{"json": [1]} {}', "\\frac{1}{2}", "{{2-3}}", "{ }", "{0}", '%s {"a"!r}'])
def test_other_braces_are_ordinary_characters(source: str) -> None:
    assert Template(source).fields == ()
    assert Template(source).render({}) == source
