"""Answers in words: read strictly, then leniently, or not at all."""

from dataclasses import replace

import pytest

from udr.data import Kind, Metric, Task, Template
from udr.types import Row
from udr_training.answering import AnswerForm, Parsing, parse_answer

TASK = Task(
    name="kinds",
    family="topic",
    kind=Kind.CLASSIFICATION,
    instruction="Give the type.",
    input=Template("Question: {text}"),
    output=Template("Answer type: {target}"),
    metric=Metric.ACCURACY,
    labels=("place", "person", "not a person", "num"),
    verbalizer={"num": "number"},
)
ROW = Row(id="1", input={"text": "Where?"}, target="place")
STRICT, LENIENT, UNPARSABLE = Parsing


@pytest.mark.parametrize(
    ("text", "target", "parsing"),
    [
        ("place", "place", STRICT),
        (" place\n", "place", STRICT),
        ("number", "num", STRICT),
        ("Place", "place", LENIENT),
        ("place.", "place", LENIENT),
        ("**Number**", "num", LENIENT),
        ('"person"', "person", LENIENT),
        ("num", "num", LENIENT),
        ("Answer type: place", "place", LENIENT),
        ("**answer type:** Place.", "place", LENIENT),
        ("Not a person!", "not a person", LENIENT),
        ("place. It asks where something is.", "place", LENIENT),
        ("place\nsince it asks where", "place", LENIENT),
        ("It asks where something is.\n\nAnswer type: place", "place", LENIENT),
        ("<think>a person, or a number?</think>\nplace", "place", LENIENT),
        ("a person,\nor a number?\n</think>\n\nplace", "place", LENIENT),
        ("<think>a person, or\nnumber", "<think>a person, or\nnumber", UNPARSABLE),
        ("<think>hm</think>\n<think>place", "<think>hm</think>\n<think>place", UNPARSABLE),
        ("```text\nplace\n```", "place", LENIENT),
        ("not", "not", UNPARSABLE),
        ("place or person", "place or person", UNPARSABLE),
        ("It is not a place", "It is not a place", UNPARSABLE),
        ("placebo", "placebo", UNPARSABLE),
        ("Place, person", "Place, person", UNPARSABLE),
        ("place) person) number)", "place) person) number)", UNPARSABLE),
        ("Place, no: **person.**", "Place, no: **person.**", UNPARSABLE),
        ("person; Not a person", "person; Not a person", UNPARSABLE),
        ("Not a person, person", "Not a person, person", UNPARSABLE),
        ("number, num, as I said", "num", LENIENT),
        ("Place. Person or place? Place.", "place", LENIENT),
        ("place, not a person or so", "place", LENIENT),
        ("place\nperson, number", "place", LENIENT),
        ("", "", UNPARSABLE),
    ],
)
def test_labels_are_read_strictly_and_then_leniently(text: str, target: str, parsing: Parsing) -> None:
    parsed = parse_answer(TASK, ROW, text)
    assert (parsed.text, parsed.parsing) == (target, parsing)


@pytest.mark.parametrize(
    ("text", "target", "parsing"),
    [
        ('{"answer": "place"}', "place", STRICT),
        ('```json\n{"answer": "Number"}\n```', "num", LENIENT),
        ('{"type": "person"}', "person", STRICT),
        ('Hm, {"a": 1}?\n</think>\n{"answer": "place"}', "place", LENIENT),
        ("place", "place", LENIENT),
        ('{"answer": "nowhere"}', '{"answer": "nowhere"}', UNPARSABLE),
        ('{"answer": ', '{"answer":', UNPARSABLE),
        ("[1]", "[1]", UNPARSABLE),
    ],
)
def test_json_is_read_where_it_was_asked_for(text: str, target: str, parsing: Parsing) -> None:
    parsed = parse_answer(TASK, ROW, text, AnswerForm.JSON)
    assert (parsed.text, parsed.parsing) == (target, parsing)


def test_options_that_differ_only_in_case_are_read_strictly() -> None:
    task = replace(TASK, labels=("US", "us"), verbalizer={})
    assert parse_answer(task, ROW, "us").text == "us"
    assert parse_answer(task, ROW, "Us").parsing is UNPARSABLE


@pytest.mark.parametrize(
    ("labels", "text", "target"),
    [
        (("-1", "+1"), "1", None),
        (("-1", "+1"), "**-1**", "-1"),
        (("-1", "0", "1"), "1.", "1"),
        (("-1", "0", "1"), "-1.", "-1"),
        (("-1", "0", "1"), "(-1)", "-1"),
        (("-1", "0", "1"), "- 1", "1"),
        (("-1", "0", "1"), "-1, since it is bad", "-1"),
        (("-1", "0", "1"), "Answer type: -1!", "-1"),
        (("1", "1.5", "2"), "1.5 stars", None),
        (("1", "1.5", "2"), "1.5.", "1.5"),
        (("1", "1.5", "2"), "2,5", None),
        (("1", "1.5", "2"), "2. It is fair.", "2"),
        (("5", "10"), ".5", None),
        (("-1", "0", "1"), "\N{EN DASH}1", "-1"),
        (("-1", "0", "1"), "\N{MINUS SIGN}1.", "-1"),
        (("-1", "0", "1"), "**\N{EM DASH}1**", "-1"),
        (("-1", "0", "1"), "\N{MINUS SIGN}1, since it is bad", "-1"),
        (("-.5", ".5"), "\N{EN DASH}.5", "-.5"),
        (("\N{MINUS SIGN}1", "1"), "-1", "\N{MINUS SIGN}1"),
        (("-1", "0", "1"), "\N{EN DASH} 1", "1"),
        (("-1", "1"), "-1, -1.", "-1"),
        (("-1", "0", "1"), "0, -1, 1", None),
        (("1", "2"), "1. 2,5", "1"),
        (("a; b", "a", "b"), "b. A; b", None),
        (("a; b", "a", "b"), "A; b. So it is", "a; b"),
        (("5", "9", "-9"), "5\N{EN DASH}9", None),
        (("5\N{EN DASH}9", "1\N{EN DASH}4"), "5\N{EN DASH}9.", "5\N{EN DASH}9"),
    ],
)
def test_numbers_keep_their_signs_and_fractions(labels: tuple[str, ...], text: str, target: str | None) -> None:
    parsed = parse_answer(replace(TASK, labels=labels, verbalizer={}), ROW, text)
    expected = (text, UNPARSABLE) if target is None else (target, LENIENT)
    assert (parsed.text, parsed.parsing) == expected


def test_choices_are_those_of_the_row_and_what_follows_the_target_is_left_out() -> None:
    task = replace(TASK, kind=Kind.MULTIPLE_CHOICE, labels=(), verbalizer={}, output=Template("So: {target};"))
    row = replace(ROW, choices=("red wine", "red"))
    assert parse_answer(task, row, "red;").parsing is STRICT
    assert parse_answer(task, row, "Red wine; of course").text == "red wine"


@pytest.mark.parametrize(
    ("row", "text", "parsing"),
    [
        (replace(ROW, target=""), " \n", STRICT),
        (replace(ROW, target=""), "Answer type:\n", LENIENT),
        (replace(ROW, references=("place", "")), "", STRICT),
        (replace(ROW, target=""), "<think>none?</think>", LENIENT),
        (replace(ROW, target=""), "<think>none?", UNPARSABLE),
        (ROW, "", UNPARSABLE),
    ],
)
def test_nothing_is_an_answer_where_the_target_is_empty(row: Row, text: str, parsing: Parsing) -> None:
    task = replace(TASK, kind=Kind.GENERATION, labels=(), verbalizer={})
    parsed = parse_answer(task, row, text)
    assert (parsed.text, parsed.parsing) == (text if parsing is UNPARSABLE else "", parsing)


@pytest.mark.parametrize(
    ("text", "one_line", "answer", "parsing"),
    [
        ("a b", True, "a b", STRICT),
        ("a b\nThat is it.", True, "a b", LENIENT),
        ("a b\nc", False, "a b\nc", STRICT),
        ("answer TYPE: a b", True, "a b", LENIENT),
        ("<think>hm</think>a", True, "a", LENIENT),
        ("hm\n</think>\n\na", True, "a", LENIENT),
        ("<think>a b", True, "", UNPARSABLE),
        ("```sql\na b\n```", True, "a b", LENIENT),
        ("```\nanswer type: a\nb\n```", False, "a\nb", LENIENT),
        ("  \n", True, "", UNPARSABLE),
    ],
)
def test_generated_texts_lose_what_the_template_adds(text: str, one_line: bool, answer: str, parsing: Parsing) -> None:
    task = replace(TASK, kind=Kind.GENERATION, labels=(), verbalizer={})
    parsed = parse_answer(task, ROW, text, one_line=one_line)
    assert (parsed.text, parsed.parsing) == (answer, parsing)


def test_a_fence_stays_where_targets_have_one() -> None:
    task, fenced = replace(TASK, kind=Kind.GENERATION, labels=(), verbalizer={}), "```sql\na\n```"
    parsed = parse_answer(task, replace(ROW, target=fenced), fenced, one_line=False)
    assert (parsed.text, parsed.parsing) == (fenced, STRICT)
