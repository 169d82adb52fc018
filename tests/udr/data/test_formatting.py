"""The wording, compared with golden texts: exactly what language models and encoders read."""

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import QUESTIONS
from udr.data import (
    TaskFamily,
    Template,
    Wording,
    check_input,
    copy_text,
    formatting,
    input_copy_text,
    normalised,
    parse_row,
    parse_task,
    query_fields,
)
from udr.errors import DataError, InvalidInputError
from udr.types import Row, Value

TREC = parse_task({**QUESTIONS, "labels": ["location", "human", "order", "order checks"]})
CHOICE = parse_task(
    {
        **{key: value for key, value in QUESTIONS.items() if key != "labels"},
        "name": "choice",
        "kind": "multiple_choice",
        "input": "Q: {question}\nChoices: {choices}",
        "output": "A: {target}.",
    }
)
ROW = Row(id="1", input={"question": "What is the capital of Burkina Faso ?"}, target="location")
UNSHOWN = replace(CHOICE, input=Template("Q: {question}"))
CHOICE_ROW = Row(id="1", input={"question": "Up?"}, target="sky", choices=("sky", "sea"))
FAMILIES = [TaskFamily("a", "Do a."), TaskFamily("b", "Do b.")]
SHOWN = "Question: What is the capital of Burkina Faso ?\nAnswer type: location"


def test_the_language_model_reads_exactly_this() -> None:
    query = formatting.query_prompt(TREC, {"question": "What French province is cognac produced in ?"})
    assert formatting.prompt(TREC.instruction, [formatting.demonstration_text(TREC, ROW)], query) == (
        f"Give the type of answer the question asks for.\n\n{SHOWN}\n\n"
        "Question: What French province is cognac produced in ?\nAnswer type:"
    )


def test_a_row_is_asked_with_the_fields_of_a_query() -> None:
    more = replace(CHOICE_ROW, input={**CHOICE_ROW.input, "url": "http://x"})
    for task, row, expected in (
        (CHOICE, more, {"question": "Up?", "choices": ["sky", "sea"]}),
        (UNSHOWN, more, {"question": "Up?", "choices": ["sky", "sea"]}),
        (TREC, ROW, {"question": "What is the capital of Burkina Faso ?"}),
    ):
        fields = query_fields(task, row)
        assert fields == expected and check_input(task, fields) == expected
    with pytest.raises(InvalidInputError, match="task 'choice' has no field 'url'"):
        check_input(CHOICE, {**query_fields(CHOICE, more), "url": "http://x"})
    with pytest.raises(InvalidInputError, match="task 'questions' has no field 'choices'"):
        check_input(TREC, {"question": "Up?", "choices": ["sky", "sea"]})


def test_choices_that_no_template_names_are_not_read() -> None:
    asked, bare = query_fields(UNSHOWN, CHOICE_ROW), {"question": "Up?"}
    assert asked != bare
    for read in (Wording.of_task(UNSHOWN).query, Wording.of_task(UNSHOWN).words):
        assert read(asked) == read(bare)
    assert formatting.query_prompt(UNSHOWN, asked) == formatting.query_prompt(UNSHOWN, bare)
    assert input_copy_text(UNSHOWN, asked) == input_copy_text(UNSHOWN, bare)


def test_the_encoder_reads_exactly_this() -> None:
    query = "Give the type of answer the question asks for.\nQuestion: Who wrote Emma ?"
    assert Wording.of_task(TREC).query("Who wrote Emma ?") == query
    expected = f"Give the type of answer the question asks for.\n{SHOWN}"
    assert formatting.encoder_demonstration(TREC, ROW) == expected
    assert Wording.of_families(FAMILIES[:1]).query("x\ny") == "Do a.\nx\ny"
    assert Wording.of_families(FAMILIES).query("x") == "Find solved examples like this one.\nx"
    with pytest.raises(InvalidInputError, match="over a family or over all tasks must be plain text; found fields"):
        Wording.of_families(FAMILIES[:1]).query({"question": "Who?"})


def test_the_wording_has_not_changed() -> None:
    # A change makes every existing index, model and store of scores useless; announce it in the changelog.
    assert (formatting.LM_WORDING, formatting.ENCODER_WORDING) == ("aee2541cbf74ddc6", "4495a71b96bcc406")


def test_options_include_the_end_of_the_template_and_a_newline_if_one_is_a_prefix_of_another() -> None:
    assert formatting.options(TREC, ROW) == (" location\n", " human\n", " order\n", " order checks\n")
    assert formatting.gold(TREC, ROW) == 0
    assert formatting.options(CHOICE, CHOICE_ROW) == (" sky.", " sea.")
    for fields, choices in (({}, CHOICE_ROW.choices), ({"choices": ["sky", "sea"]}, ())):
        prompt = formatting.query_prompt(CHOICE, {"question": "Up?", **fields}, choices)
        assert prompt == "Q: Up?\nChoices: sky, sea\nA:"


def test_options_of_thousands_of_labels_are_compared_in_no_time() -> None:
    labels = [f"label {number:05d}" for number in range(5_000)]
    started = time.monotonic()
    assert formatting.options(parse_task({**TREC.to_json(), "labels": labels}), ROW)[-1] == " label 04999"
    assert formatting.options(parse_task({**TREC.to_json(), "labels": [*labels, "label"]}), ROW)[-1] == " label\n"
    assert time.monotonic() - started < 1


def test_an_empty_answer_can_be_generated_and_scored() -> None:
    keys = {key: value for key, value in QUESTIONS.items() if key != "labels"}
    for output, expected in (("A: {target}", " "), ("A:{target}", "\n"), ("{target}", "\n")):
        task = parse_task({**keys, "kind": "generation", "output": output, "metric": "exact_match"})
        row = parse_row(task, {"id": "1", "input": {"question": "Any errors?"}, "target": ""})
        assert formatting.options(task, row) == (expected,)
    with pytest.raises(DataError, match="field 'target': must be a non-empty string, found ''"):
        parse_row(TREC, {"id": "1", "input": {"question": "Any errors?"}, "target": ""})


def test_a_verbalizer_replaces_labels_in_options_and_demonstrations() -> None:
    task = parse_task({**TREC.to_json(), "labels": ["location", "human"], "verbalizer": {"location": "LOC"}})
    assert formatting.options(task, ROW) == (" LOC", " human")
    assert formatting.demonstration_text(task, ROW).endswith("Answer type: LOC")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\n{b}", "a\n{b}"), (None, ""), (True, "true"), (3, "3"), (0.5, "0.5"), (["a", 1, [None, "b"]], "a, 1, , b")],
)
def test_values_are_formatted_as_text(value: Any, text: str) -> None:
    assert formatting.value_text(value) == text


COPIES = [("Who wrote Emma ?", "who WROTE\n“Emma”?"), ("ＦＵＬＬ ﬁ", "full fi"), ("Straße", "STRASSE"), ("1 2", "12")]
COPIES += [("a\u00ad b\tc", "abc"), ("so 😂 ", "so 😂!")]
DIFFERENT = [("?!", "?"), ("a", "b"), ("😂", "😡"), ("if x < 3", "if x > 3"), ("3 + 4", "3 = 4"), ("दिन", "दीन")]
DIFFERENT += [("5 €", "5 $")]


@pytest.mark.parametrize(
    ("first", "second", "copies"), [*((*pair, True) for pair in COPIES), *((*pair, False) for pair in DIFFERENT)]
)
def test_copies_are_equal_except_for_case_spaces_and_punctuation(first: str, second: str, copies: bool) -> None:
    assert (normalised(first) == normalised(second)) is copies


def copied(**input: Value) -> str:
    return input_copy_text(CHOICE, input, ("sky", "sea"))


def test_copies_have_equal_values_in_each_field() -> None:
    text = copied(question="Up?")
    assert text == copied(question="UP") == copy_text(CHOICE, CHOICE_ROW)
    assert text == copied(question="Up?", choices=["sky", "sea"]) != copied(question="Up?", choices="")
    # Texts of punctuation only are compared as they are.
    assert copied(question="...") != copied(question="?") != copied(question="Q")
    assert copied(question="a b", choices="c") != copied(question="a", choices="b c")


def test_plain_text_can_be_the_only_field() -> None:
    assert formatting.check_input(TREC, "Who?") == {"question": "Who?"}


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({}, "field 'question' of task 'choice' is missing; found no field"),
        ({"Question": "", "choices": ""}, "field 'question' .* is missing; found 'Question', 'choices'"),
        ({"question": "", "choices": "", "x": ""}, "has no field 'x'; it has 'question', 'choices'"),
        ({"question": {}, "choices": ""}, "field 'question' of task 'choice' must be a string, number"),
        ("Up?", "has the fields 'question', 'choices', but plain text was given"),
    ],
)
def test_an_invalid_input_is_an_error(input: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        formatting.check_input(CHOICE, input)
