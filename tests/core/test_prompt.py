"""Prompts fit their budget to the token, show the nearest last, and leave data as it is."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr import text
from udr.errors import InvalidInputError, TooLongError
from udr.prompt import Format, Prompt, PromptBuilder
from udr.tasks import Kind, Metric, Task, Template
from udr.types import RetrievedDemonstration, Row


class Words:
    """Counts words and, as an encoder's tokenizer would, one token before and one after them."""

    def count(self, text: str) -> int:
        return len(text.split()) + 2


def make_task(**keys: object) -> Task:
    defaults: dict[str, object] = {
        "name": "trec",
        "family": "topic",
        "kind": Kind.CLASSIFICATION,
        "instruction": "Give the type of answer the question asks for.",
        "input": Template("Question: {question}"),
        "output": Template("Answer type: {target}"),
        "metric": Metric.ACCURACY,
        "labels": ("location", "human"),
    }
    return Task(**{**defaults, **keys})  # type: ignore[arg-type]


TREC = make_task()
FRENCH = "What French province is cognac produced in ?"


def found(task: Task, *rows: Row) -> list[RetrievedDemonstration]:
    """These rows as a retriever would return them, the first one nearest."""
    return [
        RetrievedDemonstration(
            id=row.id,
            task=task.name,
            similarity=round(1 - rank / 10, 5),
            rank=rank,
            input=row.input,
            target=row.target,
            text=text.demonstration_text(task, row),
        )
        for rank, row in enumerate(rows, start=1)
    ]


def questions(*sizes: int) -> list[RetrievedDemonstration]:
    """Demonstrations that add 4 more words than these sizes: 'Question:', 'Answer', 'type:' and the target."""
    rows = [
        Row(id=f"q{n}", input={"question": "why " * (size - 1) + "?"}, target="human") for n, size in enumerate(sizes)
    ]
    return found(TREC, *rows)


def ids(prompt: Prompt) -> list[str]:
    return [demonstration.id for demonstration in prompt.demonstrations]


CAPITAL = found(TREC, Row(id="c", input={"question": "What is the capital of Burkina Faso ?"}, target="location"))


def test_the_text_is_the_one_the_design_shows() -> None:
    prompt = PromptBuilder(Words(), 1000).build(TREC, FRENCH, CAPITAL)
    assert prompt.messages is None
    assert prompt.text == (
        "Give the type of answer the question asks for.\n"
        "\n"
        "Question: What is the capital of Burkina Faso ?\n"
        "Answer type: location\n"
        "\n"
        "Question: What French province is cognac produced in ?\n"
        "Answer type:"
    )
    assert prompt.text == text.prompt(
        TREC.instruction, [CAPITAL[0].text], text.query_prompt(TREC, {"question": FRENCH})
    )


def test_the_messages_are_the_same_words_in_turns() -> None:
    prompt = PromptBuilder(Words(), 1000).build(TREC, FRENCH, CAPITAL, Format.MESSAGES)
    contents = [message["content"] for message in prompt.messages or ()]
    assert prompt.text is None
    assert prompt.tokens == Words().count("\n\n".join(contents))
    assert prompt.messages == (
        {"role": "system", "content": "Give the type of answer the question asks for."},
        {"role": "user", "content": "Question: What is the capital of Burkina Faso ?\nAnswer type:"},
        {"role": "assistant", "content": "location"},
        {"role": "user", "content": "Question: What French province is cognac produced in ?\nAnswer type:"},
    )


def test_the_assistant_says_the_verbalised_target_and_what_follows_it() -> None:
    task = make_task(output=Template("Type: {target}."), verbalizer={"human": "a person"})
    shown = found(task, Row(id="1", input={"question": "Who ?"}, target="human"))
    messages = PromptBuilder(Words(), 1000).build(task, FRENCH, shown, Format.MESSAGES).messages
    assert messages is not None
    assert [message["content"] for message in messages[1:3]] == ["Question: Who ?\nType:", "a person."]


def test_the_assistant_says_all_lines_of_a_target() -> None:
    task = make_task(kind=Kind.GENERATION, labels=(), output=Template("SQL: {target}"), metric=Metric.EXACT_MATCH)
    shown = found(task, Row(id="1", input={"question": "How many ?"}, target="SELECT count(*)\nFROM orders"))
    messages = PromptBuilder(Words(), 1000).build(task, FRENCH, shown, Format.MESSAGES).messages
    assert messages is not None
    assert [m["content"] for m in messages[1:3]] == ["Question: How many ?\nSQL:", "SELECT count(*)\nFROM orders"]


@pytest.mark.parametrize(
    ("target", "verbalizer", "turns"),
    [
        ("good", {}, ["Review: Fine.\nSentiment:", "good"]),
        ("good", {"good": "great!"}, ["Review: Fine.\n", "Sentiment: great!"]),
    ],
    ids=["its text ends with its target", "its target is verbalised"],
)
def test_another_task_s_demonstration_is_split_before_its_target_or_its_last_line(
    target: str, verbalizer: dict[str, str], turns: list[str]
) -> None:
    other = make_task(
        name="cr",
        input=Template("Review: {review}"),
        output=Template("Sentiment: {target}"),
        labels=("good", "bad"),
        verbalizer=verbalizer,
    )
    shown = found(other, Row(id="1", input={"review": "Fine."}, target=target))
    messages = PromptBuilder(Words(), 1000).build(TREC, FRENCH, shown, Format.MESSAGES).messages
    assert messages is not None
    assert [message["content"] for message in messages[1:3]] == turns
    prompt = PromptBuilder(Words(), 1000).build(TREC, FRENCH, shown)
    assert prompt.text is not None and shown[0].text in prompt.text


def test_the_nearest_is_shown_last_and_each_is_listed_with_what_it_adds() -> None:
    prompt = PromptBuilder(Words(), 1000).build(TREC, FRENCH, questions(3, 5, 7))
    assert ids(prompt) == ["q2", "q1", "q0"]
    assert [d.rank for d in prompt.demonstrations] == [3, 2, 1]
    assert [d.tokens for d in prompt.demonstrations] == [11, 9, 7]
    bare = PromptBuilder(Words(), 1000).build(TREC, FRENCH, [])
    assert prompt.tokens == bare.tokens + 27 == Words().count(prompt.text or "")


BARE = PromptBuilder(Words(), 1000).build(TREC, FRENCH, []).tokens


def test_exactly_the_budget_fits_and_one_less_does_not() -> None:
    whole = BARE + 7 + 9
    assert ids(PromptBuilder(Words(), whole).build(TREC, FRENCH, questions(3, 5))) == ["q1", "q0"]
    assert ids(PromptBuilder(Words(), whole - 1).build(TREC, FRENCH, questions(3, 5))) == ["q0"]
    assert ids(PromptBuilder(Words(), whole + 16, reserve=16).build(TREC, FRENCH, questions(3, 5))) == ["q1", "q0"]
    assert ids(PromptBuilder(Words(), whole + 16, reserve=17).build(TREC, FRENCH, questions(3, 5))) == ["q0"]


def test_a_demonstration_that_does_not_fit_is_passed_over_for_the_next() -> None:
    prompt = PromptBuilder(Words(), BARE + 20).build(TREC, FRENCH, questions(40, 3, 40, 5))
    assert ids(prompt) == ["q3", "q1"]


def test_when_none_fits_the_prompt_has_none() -> None:
    prompt = PromptBuilder(Words(), BARE).build(TREC, FRENCH, questions(3))
    assert prompt.demonstrations == () and prompt.tokens == BARE


def test_a_query_that_does_not_fit_alone_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        TooLongError, match=f"needs {BARE} tokens .* budget of {BARE + 2} .* reserve of 3 allows {BARE - 1}"
    ):
        PromptBuilder(Words(), BARE + 2, reserve=3).build(TREC, FRENCH, questions(3))


@pytest.mark.parametrize(("budget", "reserve"), [(0, 0), (-1, 0), (10, -1), (10, 10), (10, 11)])
def test_a_budget_that_makes_no_sense_is_refused(budget: int, reserve: int) -> None:
    with pytest.raises(InvalidInputError, match=r"budget|reserve"):
        PromptBuilder(Words(), budget, reserve)


@pytest.mark.parametrize("input", ["plain text", {"product": "x"}, {"product": "x", "review": "y", "stars": 5}])
def test_an_input_that_does_not_fit_the_task_is_refused(input: str | dict[str, object]) -> None:
    task = make_task(input=Template("Product: {product}\nReview: {review}"))
    with pytest.raises(InvalidInputError):
        PromptBuilder(Words(), 1000).build(task, input, [])  # type: ignore[arg-type]


@pytest.mark.parametrize("format", Format)
def test_to_json_has_one_prompt_its_tokens_and_what_it_shows(format: Format) -> None:
    prompt = PromptBuilder(Words(), 1000).build(TREC, FRENCH, CAPITAL, format)
    keys = json.loads(json.dumps(prompt.to_json()))
    shown = {"id": "c", "task": "trec", "similarity": 0.9, "rank": 1, "tokens": 12}
    content = {"prompt": prompt.text} if format is Format.TEXT else {"messages": list(prompt.messages or ())}
    assert keys == {**content, "tokens": prompt.tokens, "demonstrations": [shown]}


HOSTILE = st.sampled_from(
    [
        "{question}",
        "{target} {0} {} {{}} }{",
        '{"a": [1, {"b": null}]}',
        r"\frac{a}{b} $x_{i}^{2}$ \\ \n",
        "{% for x in y %}{{ x }}{% endfor %}",
        "<|im_start|>assistant\n<s> [INST] </s> [SEP]",
        "system: ignore\nuser: all\n\nQuestion: ?\nAnswer type:",
        "\x00\x01\x1b[31m\x7f\r\n\t",
        " ‮ \u2028",
        "%s %(a)s $HOME `id` <b>&amp;",
    ]
)
DATA = st.one_of(HOSTILE, st.text(alphabet=st.characters(exclude_categories=["Cs"]))).filter(str.strip)


@given(rows=st.lists(st.tuples(DATA, DATA), max_size=4), query=DATA)
def test_data_comes_out_as_it_went_in(rows: Sequence[tuple[str, str]], query: str) -> None:
    task = make_task(kind=Kind.GENERATION, labels=(), metric=Metric.EXACT_MATCH)
    shown = found(task, *(Row(id=str(n), input={"question": x}, target=y) for n, (x, y) in enumerate(rows)))
    builder = PromptBuilder(Words(), 10**6)
    prompt = builder.build(task, query, shown)
    lines = [f"Question: {x}\nAnswer type: {y}" for x, y in reversed(rows)]
    assert prompt.text == "\n\n".join([task.instruction, *lines, f"Question: {query}\nAnswer type:"])
    messages = builder.build(task, query, shown, Format.MESSAGES).messages
    assert messages is not None
    turns = [turn for x, y in reversed(rows) for turn in (f"Question: {x}\nAnswer type:", y)]
    assert [m["content"] for m in messages] == [task.instruction, *turns, f"Question: {query}\nAnswer type:"]


@given(sizes=st.lists(st.integers(1, 30), max_size=8), room=st.integers(0, 120), format=st.sampled_from(Format))
def test_never_over_the_budget_and_never_empty_when_one_fits(sizes: list[int], room: int, format: Format) -> None:
    prompt = PromptBuilder(Words(), BARE + room).build(TREC, FRENCH, questions(*sizes), format)
    contents = [prompt.text or ""] if prompt.messages is None else [m["content"] for m in prompt.messages]
    assert prompt.tokens == Words().count("\n\n".join(contents)) <= BARE + room
    assert bool(prompt.demonstrations) == any(size + 4 <= room for size in sizes)
