"""The selector in LangChain's own prompt templates."""

import asyncio
import copy
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'udr-icl[langchain]'")

from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.example_selectors.base import BaseExampleSelector
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)

from tests.clients import URL
from tests.fakes import HashEncoder, write_task
from tests.udr.data.test_formatting import CHOICE
from tests.udr.integrations.sources import Source, retrieved, service_of
from udr.client import AsyncClient, Client
from udr.errors import ConfigError, InvalidInputError
from udr.integrations import DemonstrationSelector, VerbatimFewShotPromptTemplate
from udr.retrieval import Retriever
from udr.types import Json, Row
from udr_index.build import BuildConfig, build

QUESTION = {"question": "Where is the old castle?"}
WHY = retrieved({"question": "why?"}, "t")
EXAMPLE = PromptTemplate.from_template("Question: {question}\nAnswer type: {target}")
TURNS = ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{target}")])


def few_shot(selector: BaseExampleSelector, kind: type[FewShotPromptTemplate]) -> FewShotPromptTemplate:
    return kind(
        example_selector=selector,
        example_prompt=EXAMPLE,
        prefix="Give the type.",
        suffix="Question: {question}\nAnswer type:",
    )


def chat(selector: BaseExampleSelector) -> ChatPromptTemplate:
    turns = FewShotChatMessagePromptTemplate(
        input_variables=["question"], example_selector=selector, example_prompt=TURNS
    )
    return ChatPromptTemplate.from_messages([turns, ("human", "{question}")])


def test_examples_are_the_retrieved_demonstrations_in_order(retriever: Retriever) -> None:
    examples = [{**item.input, "target": item.target} for item in retriever.retrieve("questions", QUESTION, 3)]
    selector = DemonstrationSelector(retriever, task="questions", k=3)
    assert isinstance(selector, BaseExampleSelector)
    assert selector.select_examples(QUESTION) == examples[::-1]
    assert asyncio.run(selector.aselect_examples(QUESTION)) == examples[::-1]
    nearest_first = DemonstrationSelector(retriever, "questions", 3, order="nearest_first")
    assert nearest_first.select_examples(QUESTION) == examples


@pytest.fixture
def choices_index(tmp_path: Path) -> Path:
    """An index of a multiple-choice task whose template shows the choices."""
    pairs = [("sky", "sea"), ("sun", "moon"), ("hill", "lake")]
    train: list[Mapping[str, Json]] = [
        {"id": str(n), "input": {"question": f"Up {n}?"}, "target": up, "choices": [up, down]}
        for n, (up, down) in enumerate(pairs)
    ]
    write_task(tmp_path / "tasks", CHOICE.to_json(), train=train)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", bm25=False), HashEncoder())
    return tmp_path / "index"


def test_examples_have_the_choices_of_their_rows_in_process_and_from_a_service(choices_index: Path) -> None:
    query = {"question": "Up 1?", "choices": "sun, moon"}
    template = PromptTemplate.from_template("Q: {question}\nChoices: {choices}\nA: {target}.")
    with Retriever.open(choices_index, encoder=HashEncoder()) as source:
        best = source.retrieve("choice", query, 2)
        examples = DemonstrationSelector(source, "choice", 2).select_examples(query)
    assert [item.choices[0] for item in best] == [item.target for item in best]
    assert [template.format(**example) for example in examples] == [item.text for item in reversed(best)]
    with Client(URL, transport=httpx2.MockTransport(service_of(*best))) as client:
        assert DemonstrationSelector(client, "choice", 2).select_examples(query) == examples


def test_an_example_with_choices_is_put_into_the_pool(choices_index: Path) -> None:
    with Retriever.open(choices_index, encoder=HashEncoder()) as source:
        selector = DemonstrationSelector(source, "choice", 1)
        added = {"question": "Up 9?", "choices": ["cloud", "grass"], "target": "cloud"}
        row = source.demonstration("choice", selector.add_example(added))
        assert (row.input, row.choices, row.target) == ({"question": "Up 9?"}, ("cloud", "grass"), "cloud")
        with pytest.raises(InvalidInputError, match="at least two different choices, in a list beside the input"):
            selector.add_example({**added, "choices": "cloud, grass"})


def test_options_reach_the_source_and_unknown_ones_are_refused() -> None:
    source = Source()
    DemonstrationSelector(source, "t", 2, exclude=["a"], min_similarity=0.5, diversity=0.3).select_examples({"x": "y"})
    assert source.calls == [("t", {"x": "y"}, 2, {"exclude": ["a"], "min_similarity": 0.5, "diversity": 0.3})]
    with pytest.raises(ConfigError, match="unknown option 'diversty'; the options are exclude"):
        DemonstrationSelector(Source(), "t", diversty=0.5)  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match=r"must be one of nearest_last, .*found 'random'"):
        DemonstrationSelector(Source(), "t", order="random")


def test_input_keys_select_the_query_from_the_variables(retriever: Retriever) -> None:
    source, variables = Source(), {"question": "why?", "tone": "kind"}
    selector = DemonstrationSelector(source, "t", 2, input_keys=["question"])
    selector.select_examples(variables)
    assert source.calls[0][1] == {"question": "why?"}
    with pytest.raises(InvalidInputError, match="'question' of input_keys is missing; found 'tone'"):
        selector.select_examples({"tone": "kind"})
    with pytest.raises(InvalidInputError, match="no field 'tone'"):
        DemonstrationSelector(retriever, "questions").select_examples(variables)


def test_values_become_text_and_target_key_names_the_target() -> None:
    selector = DemonstrationSelector(Source(retrieved({"a": None, "b": [1, "two"], "c": True}, "t")), "task")
    assert selector.select_examples({"a": "x"}) == [{"a": "", "b": "1, two", "c": "true", "target": "t"}]
    source = Source(retrieved({"target": "cup"}, "hit"))
    selector = DemonstrationSelector(source, "task", target_key="answer")
    assert selector.select_examples({"target": "x"}) == [{"target": "cup", "answer": "hit"}]
    with pytest.raises(InvalidInputError, match="has an input field 'target'; choose another target_key"):
        DemonstrationSelector(source, "task").select_examples({"target": "x"})


class Pool(Source):
    """A source that takes rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, Row]] = []

    def put(self, task: str, row: Row) -> None:
        self.rows.append((task, row))


class AwaitedPool(Pool):
    async def put(self, task: str, row: Row) -> None:  # type: ignore[override]
        super().put(task, row)


@pytest.mark.parametrize("kind", [Pool, AwaitedPool])
def test_an_example_is_put_into_the_pool_once(kind: type[Pool]) -> None:
    source, added = kind(), {"question": "why?", "answer": "reason"}
    selector = DemonstrationSelector(source, "trec", target_key="answer")
    id = asyncio.run(selector.aadd_example(added))
    assert source.rows == [("trec", Row(id=id, input={"question": "why?"}, target="reason"))]
    if kind is AwaitedPool:
        with pytest.raises(TypeError, match="call aadd_example"):
            selector.add_example(added)
    else:
        assert (
            selector.add_example(dict(reversed(added.items()))) == id != selector.add_example({**added, "answer": "x"})
        )
    with pytest.raises(InvalidInputError, match="the example has no 'answer', its target; found 'question'"):
        selector.add_example({"question": "why?"})


def test_a_source_that_takes_no_rows_says_so() -> None:
    with pytest.raises(TypeError, match="takes no rows; pass a Retriever or a client"):
        DemonstrationSelector(Source(), "trec").add_example({"question": "why?", "target": "reason"})


@pytest.mark.parametrize("kind", [FewShotPromptTemplate, VerbatimFewShotPromptTemplate])
def test_the_text_template_shows_instruction_examples_and_query(
    retriever: Retriever, kind: type[FewShotPromptTemplate]
) -> None:
    template = few_shot(DemonstrationSelector(retriever, "questions", 2), kind)
    near, nearest = reversed(retriever.retrieve("questions", QUESTION, 2))
    expected = f"Give the type.\n\n{near.text}\n\n{nearest.text}\n\nQuestion: {QUESTION['question']}\nAnswer type:"
    assert template.format(**QUESTION) == expected
    assert asyncio.run(template.aformat(**QUESTION)) == expected


def test_the_chat_template_shows_examples_as_turns(retriever: Retriever) -> None:
    template = chat(DemonstrationSelector(retriever, "questions", 2))
    near, nearest = reversed(retriever.retrieve("questions", QUESTION, 2))
    expected = [
        *(HumanMessage(str(near.input["question"])), AIMessage(near.target)),
        *(HumanMessage(str(nearest.input["question"])), AIMessage(nearest.target)),
        HumanMessage(QUESTION["question"]),
    ]
    assert template.format_messages(**QUESTION) == expected
    assert asyncio.run(template.aformat_messages(**QUESTION)) == expected


def test_chains_answer_called_awaited_and_in_batches(retriever: Retriever) -> None:
    selector = DemonstrationSelector(retriever, "questions", 2)
    chain = few_shot(selector, VerbatimFewShotPromptTemplate) | FakeListLLM(responses=["place"])
    assert chain.invoke(QUESTION) == asyncio.run(chain.ainvoke(QUESTION)) == "place"
    assert chain.batch([QUESTION, QUESTION]) == ["place", "place"]
    answers = chat(selector) | FakeListChatModel(responses=["place"])
    assert asyncio.run(answers.ainvoke(QUESTION)).content == "place"


def test_a_client_answers_awaited_calls_in_another_thread() -> None:
    threads, service = [], service_of(WHY)

    def answer(request: httpx2.Request) -> httpx2.Response:
        threads.append(threading.current_thread())
        return service(request)

    with Client(URL, transport=httpx2.MockTransport(answer)) as client:
        selector = DemonstrationSelector(client, "task", 1)
        assert selector.select_examples(QUESTION) == [{"question": "why?", "target": "t"}]
        assert asyncio.run(selector.aselect_examples(QUESTION)) == [{"question": "why?", "target": "t"}]
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_an_asynchronous_client_answers_only_awaited_calls() -> None:
    service = service_of(WHY)

    async def select() -> list[dict[str, Any]]:
        async with AsyncClient(URL, transport=httpx2.MockTransport(service)) as client:
            selector = DemonstrationSelector(client, "task", 1)
            with pytest.raises(TypeError, match="can only be awaited; call the asynchronous method"):
                selector.select_examples(QUESTION)
            return await selector.aselect_examples(QUESTION)

    assert asyncio.run(select()) == [{"question": "why?", "target": "t"}]
    assert len(service.requests) == 1


@pytest.mark.parametrize("value", ['{"a": {"b": 1}}', "{question}", "{{ question }}", "${HOME}", "%s"])
def test_braces_are_unchanged_in_the_chat_template(value: str) -> None:
    selector = DemonstrationSelector(Source(retrieved({"question": value}, value)), "task", 1)
    assert [message.content for message in chat(selector).format_messages(question=value)] == [value, value, value]


@settings(max_examples=30)
@example(r"\frac{a}{b}", "{question}")
@given(st.text(alphabet="{}[]%$\\\"':!ab \n"), st.text(alphabet="{}ab"))
def test_any_text_is_unchanged_in_the_verbatim_template(question: str, target: str) -> None:
    selector = DemonstrationSelector(Source(retrieved({"question": question}, target)), "task", 1)
    shown = f"Question: {question}\nAnswer type: {target}"
    prompt = few_shot(selector, VerbatimFewShotPromptTemplate).format(question=question)
    assert prompt == f"Give the type.\n\n{shown}\n\nQuestion: {question}\nAnswer type:"


def test_the_verbatim_template_supports_jinja_and_partial_variables() -> None:
    source = Source(retrieved({"question": "{{ 7 * 7 }}"}, "x"))
    template = VerbatimFewShotPromptTemplate(
        example_selector=DemonstrationSelector(source, "task", 1, input_keys=["question"]),
        example_prompt=EXAMPLE,
        prefix="Be {{ tone }}.",
        suffix="Question: {{ question }}",
        template_format="jinja2",
        partial_variables={"tone": "brief"},
        example_separator="\n",
    )
    assert template.input_variables == ["question"]
    assert template.format(question="why?") == "Be brief.\nQuestion: {{ 7 * 7 }}\nAnswer type: x\nQuestion: why?"


def test_a_template_that_holds_a_retriever_can_be_copied(retriever: Retriever) -> None:
    template = few_shot(DemonstrationSelector(retriever, "questions", 2), VerbatimFewShotPromptTemplate)
    text = template.format(**QUESTION)
    for duplicate in (copy.deepcopy(template), template.model_copy(deep=True)):
        assert duplicate.format(**QUESTION) == text
    with pytest.raises(TypeError, match="open the index where it is used"):
        pickle.dumps(template)
    client = pickle.dumps(few_shot(DemonstrationSelector(Client(URL), "questions", 2), VerbatimFewShotPromptTemplate))
    assert pickle.loads(client).example_selector._selector.source.url == URL
