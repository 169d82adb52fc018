"""The selector in LangChain's own prompt templates."""

import asyncio
import threading
from typing import Any

import httpx2
import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'udr-icl[langchain]'")

from hypothesis import given
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

from tests.clients import URL, Service
from tests.udr.integrations.sources import Source, found
from udr.client import AsyncClient, Client
from udr.errors import ConfigError, InvalidInputError
from udr.integrations import DemonstrationSelector, VerbatimFewShotPromptTemplate
from udr.retrieval import Retriever

QUESTION = {"question": "Where is the old castle?"}
EXAMPLE = PromptTemplate.from_template("Question: {question}\nAnswer type: {target}")
TURNS = ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{target}")])


def few_shot(selector: BaseExampleSelector, kind: type[FewShotPromptTemplate]) -> FewShotPromptTemplate:
    return kind(
        example_selector=selector,
        example_prompt=EXAMPLE,
        prefix="Give the type.",
        suffix="Question: {question}\nAnswer type:",
    )


def test_examples_are_the_retrievers_demonstrations_the_nearest_last(retriever: Retriever) -> None:
    selector = DemonstrationSelector(retriever, task="questions", k=3)
    retrieved = retriever.retrieve("questions", QUESTION, 3)
    examples = selector.select_examples(QUESTION)
    assert isinstance(selector, BaseExampleSelector)
    assert examples == [{**one.input, "target": one.target} for one in reversed(retrieved)]


def test_nearest_first_is_the_retrievers_order(retriever: Retriever) -> None:
    selector = DemonstrationSelector(retriever, "questions", 3, order="nearest_first")
    retrieved = retriever.retrieve("questions", QUESTION, 3)
    assert selector.select_examples(QUESTION) == [{**one.input, "target": one.target} for one in retrieved]


def test_awaited_examples_are_the_same(retriever: Retriever) -> None:
    selector = DemonstrationSelector(retriever, "questions", 3)
    assert asyncio.run(selector.aselect_examples(QUESTION)) == selector.select_examples(QUESTION)


def test_options_reach_the_source() -> None:
    source = Source()
    DemonstrationSelector(source, "t", 2, exclude=["a"], min_similarity=0.5, diversity=0.3).select_examples({"x": "y"})
    assert source.asked == [("t", {"x": "y"}, 2, {"exclude": ["a"], "min_similarity": 0.5, "diversity": 0.3})]


def test_an_unknown_option_or_order_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="no option 'diversty'; it has exclude"):
        DemonstrationSelector(Source(), "t", diversty=0.5)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"must be one of nearest_last, .*found 'random'"):
        DemonstrationSelector(Source(), "t", order="random")


def test_input_keys_pick_the_query_out_of_the_variables() -> None:
    source = Source()
    selector = DemonstrationSelector(source, "t", 2, input_keys=["question"])
    selector.select_examples({"question": "why?", "tone": "kind"})
    assert source.asked[0][1] == {"question": "why?"}
    with pytest.raises(InvalidInputError, match="'question' of input_keys is missing; found 'tone'"):
        selector.select_examples({"tone": "kind"})


def test_a_variable_that_is_no_field_is_named(retriever: Retriever) -> None:
    with pytest.raises(InvalidInputError, match="no field 'tone'"):
        DemonstrationSelector(retriever, "questions").select_examples({**QUESTION, "tone": "kind"})


def test_values_read_as_udr_words_them() -> None:
    selector = DemonstrationSelector(Source(found({"a": None, "b": [1, "two"], "c": True}, "t")), "task")
    assert selector.select_examples({"a": "x"}) == [{"a": "", "b": "1, two", "c": "true", "target": "t"}]


def test_the_target_goes_by_the_name_that_is_asked_for() -> None:
    source = Source(found({"target": "cup"}, "hit"))
    assert DemonstrationSelector(source, "task", target_key="answer").select_examples({"target": "x"}) == [
        {"target": "cup", "answer": "hit"}
    ]
    with pytest.raises(InvalidInputError, match="has an input field 'target'; name the target by another target_key"):
        DemonstrationSelector(source, "task").select_examples({"target": "x"})


def test_adding_an_example_says_how_rows_are_added() -> None:
    selector = DemonstrationSelector(Source(), "trec")
    with pytest.raises(NotImplementedError, match=r"train\.jsonl of task 'trec', run: udr index build"):
        selector.add_example({"question": "why?"})
    with pytest.raises(NotImplementedError, match="udr index build"):
        asyncio.run(selector.aadd_example({"question": "why?"}))


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
    few = FewShotChatMessagePromptTemplate(
        input_variables=["question"],
        example_selector=DemonstrationSelector(retriever, "questions", 2),
        example_prompt=TURNS,
    )
    near, nearest = reversed(retriever.retrieve("questions", QUESTION, 2))
    expected = [
        message
        for one in (near, nearest)
        for message in (HumanMessage(str(one.input["question"])), AIMessage(one.target))
    ]
    assert few.format_messages(**QUESTION) == expected
    assert asyncio.run(few.aformat_messages(**QUESTION)) == expected


def test_a_chain_answers_at_once_awaited_and_in_a_batch(retriever: Retriever) -> None:
    template = few_shot(DemonstrationSelector(retriever, "questions", 2), VerbatimFewShotPromptTemplate)
    chain = template | FakeListLLM(responses=["place"])
    assert chain.invoke(QUESTION) == "place"
    assert asyncio.run(chain.ainvoke(QUESTION)) == "place"
    assert chain.batch([QUESTION, QUESTION]) == ["place", "place"]


def test_a_chat_chain_answers(retriever: Retriever) -> None:
    few = FewShotChatMessagePromptTemplate(
        input_variables=["question"],
        example_selector=DemonstrationSelector(retriever, "questions", 2),
        example_prompt=TURNS,
    )
    prompt = ChatPromptTemplate.from_messages([("system", "Give the type."), few, ("human", "{question}")])
    chain = prompt | FakeListChatModel(responses=["place"])
    assert asyncio.run(chain.ainvoke(QUESTION)).content == "place"


def test_a_client_answers_at_once_and_awaited_off_the_loop() -> None:
    threads = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        threads.add(threading.current_thread())
        return service(request)

    service = Service(httpx2.Response(200, json=Source(found({"question": "why?"}, "t")).retrieval.to_json()))
    with Client(URL, transport=httpx2.MockTransport(answer)) as client:
        selector = DemonstrationSelector(client, "task", 1)
        assert selector.select_examples(QUESTION) == [{"question": "why?", "target": "t"}]
        assert threads == {threading.main_thread()}
        threads.clear()
        assert asyncio.run(selector.aselect_examples(QUESTION)) == [{"question": "why?", "target": "t"}]
        assert threading.main_thread() not in threads and len(threads) == 1


def test_an_asynchronous_client_answers_awaited_alone() -> None:
    service = Service(httpx2.Response(200, json=Source(found({"question": "why?"}, "t")).retrieval.to_json()))

    async def ask() -> list[dict[str, Any]]:
        async with AsyncClient(URL, transport=httpx2.MockTransport(service)) as client:
            selector = DemonstrationSelector(client, "task", 1)
            with pytest.raises(TypeError, match="can only be awaited; call the asynchronous method"):
                selector.select_examples(QUESTION)
            return await selector.aselect_examples(QUESTION)

    assert asyncio.run(ask()) == [{"question": "why?", "target": "t"}]
    assert len(service.requests) == 1


def test_awaiting_asks_the_source_from_the_loop_and_lets_it_go_on() -> None:
    selector = DemonstrationSelector(Source(found({"question": "why?"}, "t"), slow=0.1), "task", 1)

    async def both() -> None:
        asked, other = asyncio.create_task(selector.aselect_examples(QUESTION)), asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, other.set)
        await other.wait()
        assert not asked.done()
        await asked

    asyncio.run(both())


BRACES = [
    "{",
    "}",
    "{}",
    "{{",
    '{"a": {"b": 1}}',
    r"\frac{a}{b}",
    "{question}",
    "{{ question }}",
    "${HOME}",
    "{0}",
    "%s",
]


@pytest.mark.parametrize("value", BRACES)
def test_braces_come_out_of_the_verbatim_and_the_chat_template_as_they_went_in(value: str) -> None:
    selector = DemonstrationSelector(Source(found({"question": value}, value)), "task", 1)
    shown = f"Question: {value}\nAnswer type: {value}"
    text = few_shot(selector, VerbatimFewShotPromptTemplate)
    assert text.format(question=value) == f"Give the type.\n\n{shown}\n\nQuestion: {value}\nAnswer type:"
    few = FewShotChatMessagePromptTemplate(
        input_variables=["question"], example_selector=selector, example_prompt=TURNS
    )
    chat = ChatPromptTemplate.from_messages([few, ("human", "{question}")])
    assert [message.content for message in chat.format_messages(question=value)] == [value, value, value]


@given(st.text(alphabet="{}[]%$\\\"':!ab \n"), st.text(alphabet="{}ab"))
def test_any_text_comes_out_of_the_verbatim_template_as_it_went_in(question: str, target: str) -> None:
    selector = DemonstrationSelector(Source(found({"question": question}, target)), "task", 1)
    shown = f"Question: {question}\nAnswer type: {target}"
    prompt = few_shot(selector, VerbatimFewShotPromptTemplate).format(question=question)
    assert prompt == f"Give the type.\n\n{shown}\n\nQuestion: {question}\nAnswer type:"


def test_the_verbatim_template_formats_jinja_and_partial_variables_as_langchain_does() -> None:
    selector = DemonstrationSelector(
        Source(found({"question": "{{ 7 * 7 }}"}, "x")), "task", 1, input_keys=["question"]
    )
    template = VerbatimFewShotPromptTemplate(
        example_selector=selector,
        example_prompt=EXAMPLE,
        prefix="Be {{ tone }}.",
        suffix="Question: {{ question }}",
        template_format="jinja2",
        partial_variables={"tone": "brief"},
        example_separator="\n",
    )
    assert template.input_variables == ["question"]
    assert template.format(question="why?") == "Be brief.\nQuestion: {{ 7 * 7 }}\nAnswer type: x\nQuestion: why?"
