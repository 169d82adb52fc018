"""The wording, held by golden texts: what the language model and the encoder read, to the letter."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.data import TaskFamily, copy_text, formatting, input_copy_text, normalised, parse_task, plain_inputs
from udr.errors import InvalidInputError
from udr.types import Fields, Row, Value

TREC = parse_task(
    {
        "name": "trec",
        "family": "topic",
        "kind": "classification",
        "instruction": "Give the type of answer the question asks for.",
        "input": "Question: {question}",
        "output": "Answer type: {target}",
        "metric": "accuracy",
        "labels": ["location", "human", "order", "order checks"],
    }
)
CHOICE = parse_task(
    {
        "name": "choice",
        "family": "choice",
        "kind": "multiple_choice",
        "instruction": "Choose.",
        "input": "Q: {question}\nChoices: {choices}",
        "output": "A: {target}.",
        "metric": "accuracy",
    }
)
ROW = Row(id="1", input={"question": "What is the capital of Burkina Faso ?"}, target="location")
CHOICE_ROW = Row(id="1", input={"question": "Up?"}, target="sky", choices=("sky", "sea"))


def test_the_language_model_reads_exactly_this() -> None:
    query = formatting.query_prompt(TREC, {"question": "What French province is cognac produced in ?"})

    assert formatting.prompt(TREC.instruction, [formatting.demonstration_text(TREC, ROW)], query) == (
        "Give the type of answer the question asks for.\n"
        "\n"
        "Question: What is the capital of Burkina Faso ?\n"
        "Answer type: location\n"
        "\n"
        "Question: What French province is cognac produced in ?\n"
        "Answer type:"
    )


def test_the_encoder_reads_exactly_this() -> None:
    assert formatting.Wording.of_task(TREC).query("Who wrote Emma ?") == (
        "Give the type of answer the question asks for.\nQuestion: Who wrote Emma ?"
    )
    assert formatting.encoder_demonstration(TREC, ROW) == (
        "Give the type of answer the question asks for.\n"
        "Question: What is the capital of Burkina Faso ?\n"
        "Answer type: location"
    )
    families = [TaskFamily("a", "Do a."), TaskFamily("b", "Do b.")]
    assert formatting.Wording.of_families(families[:1]).query("x\ny") == "Do a.\nx\ny"
    assert formatting.Wording.of_families(families).query("x") == "Find solved examples like this one.\nx"


def test_the_wording_has_not_changed() -> None:
    # Who changes these makes every index, model and store of scores out there useless; say so in the changelog.
    assert (formatting.LM_WORDING, formatting.ENCODER_WORDING) == ("aee2541cbf74ddc6", "4495a71b96bcc406")


def test_options_of_which_one_begins_another_end_with_a_newline() -> None:
    assert formatting.options(TREC, ROW) == (" location\n", " human\n", " order\n", " order checks\n")
    assert formatting.gold(TREC, ROW) == 0


def test_options_of_a_choice_are_its_own_and_go_to_the_end_of_the_template() -> None:
    assert formatting.options(CHOICE, CHOICE_ROW) == (" sky.", " sea.")
    assert formatting.query_prompt(CHOICE, CHOICE_ROW.input, CHOICE_ROW.choices) == "Q: Up?\nChoices: sky, sea\nA:"
    assert (
        formatting.query_prompt(CHOICE, {"question": "Up?", "choices": ["sky", "sea"]})
        == "Q: Up?\nChoices: sky, sea\nA:"
    )


def test_a_verbalizer_replaces_labels_wherever_the_model_reads_them() -> None:
    task = parse_task({**TREC.to_json(), "labels": ["location", "human"], "verbalizer": {"location": "LOC"}})

    assert formatting.options(task, ROW) == (" LOC", " human")
    assert formatting.demonstration_text(task, ROW).endswith("Answer type: LOC")


@pytest.mark.parametrize(
    ("value", "words"),
    [("a\n{b}", "a\n{b}"), (None, ""), (True, "true"), (3, "3"), (0.5, "0.5"), (["a", 1, [None, "b"]], "a, 1, , b")],
)
def test_values_read_like_this(value: Any, words: str) -> None:
    assert formatting.value_text(value) == words


@given(st.text())
def test_data_comes_out_as_it_went_in(question: str) -> None:
    row = Row(id="1", input={"question": question}, target="location")

    assert formatting.demonstration_text(TREC, row) == f"Question: {question}\nAnswer type: location"
    assert formatting.query_prompt(TREC, row.input) == f"Question: {question}\nAnswer type:"


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        ("Who wrote Emma ?", "who WROTE\n“Emma”?", True),
        ("ＦＵＬＬ ﬁ", "full fi", True),
        ("Straße", "STRASSE", True),
        ("1 2", "12", True),
        ("a\u00ad b\tc", "abc", True),
        ("?!", "?", False),
        ("a", "b", False),
        ("😂", "😡", False),
        ("so 😂 ", "so 😂!", True),
        ("if x < 3", "if x > 3", False),
        ("3 + 4", "3 = 4", False),
        ("दिन", "दीन", False),
        ("5 €", "5 $", False),
    ],
)
def test_copies_are_equal_but_for_case_spaces_and_punctuation(one: str, other: str, copies: bool) -> None:
    assert (normalised(one) == normalised(other)) is copies


def copied(**input: Value) -> str:
    return input_copy_text(CHOICE, input, ("sky", "sea"))


def test_copies_have_equal_values_whatever_the_template_says() -> None:
    assert copied(question="Up?") == copied(question="UP") == copy_text(CHOICE, CHOICE_ROW)
    assert (
        copied(question="Up?", choices=["sky", "sea"]) == copied(question="Up?") != copied(question="Up?", choices="")
    )
    # Nothing but punctuation is told apart as it is, field by field.
    assert copied(question="...") != copied(question="?") != copied(question="Q")
    assert copied(question="a b", choices="c") != copied(question="a", choices="b c")


@pytest.mark.parametrize(
    ("plain", "inputs"),
    [
        ("Q: Up?\nChoices: sky, sea", [{"question": "Up?", "choices": "sky, sea"}]),
        ("q: A\nB\nchoices: C\nChoices: D", [{"question": "A\nB", "choices": "C\nChoices: D"}]),
        ("Up?", []),
        ("\nChoices: " * 3000, []),
    ],
)
def test_plain_text_may_read_like_an_input(plain: str, inputs: list[Fields]) -> None:
    assert plain_inputs(CHOICE, plain) == inputs


def test_plain_text_may_be_the_only_field_or_read_like_its_template() -> None:
    assert plain_inputs(TREC, "Who?") == [{"question": "Who?"}]
    assert plain_inputs(TREC, "Question: Who?") == [{"question": "Question: Who?"}, {"question": "Who?"}]
    twice = parse_task({**CHOICE.to_json(), "input": "{question} {choices} {question}"})
    assert plain_inputs(twice, "a b a") == []


BAD_INPUTS: dict[str, tuple[Any, str]] = {
    "missing field": ({}, "field 'question' of task 'choice' is missing; found no field"),
    "misspelt field": ({"Question": "", "choices": ""}, "field 'question' .* is missing; found 'Question', 'choices'"),
    "unknown field": ({"question": "", "choices": "", "x": ""}, "has no field 'x'; it has 'question', 'choices'"),
    "an object": ({"question": {}, "choices": ""}, "field 'question' of task 'choice' must be a string, number"),
    "plain text for two fields": ("Up?", "has the fields 'question', 'choices', but plain text was given"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_an_input_that_does_not_fit_is_refused(name: str) -> None:
    given, message = BAD_INPUTS[name]

    with pytest.raises(InvalidInputError, match=message):
        formatting.check_input(CHOICE, given)


def test_plain_text_is_the_only_field() -> None:
    assert formatting.check_input(TREC, "Who?") == {"question": "Who?"}
    with pytest.raises(InvalidInputError, match="over a family or over all tasks must be plain text; found fields"):
        formatting.Wording.of_families([TaskFamily("a", "Do a.")]).query({"question": "Who?"})
