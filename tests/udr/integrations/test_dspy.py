"""The teleprompter with DSPy's own modules, adapters and ways to save."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dspy", reason="needs dspy: pip install 'udr-icl[dspy]'")

import dspy
from dspy.utils import DummyLM

from tests.clients import URL
from tests.udr.integrations.sources import Source, retrieved
from udr.client import AsyncClient, Client
from udr.data import Filter
from udr.errors import ArtifactError, ConfigError, InvalidInputError
from udr.integrations import DemonstrationFewShot, DemonstrationProgram, open_program
from udr.retrieval import DefaultK, Retriever

QUESTION = "Where is the old castle?"
WHY = retrieved({"question": "why?"}, "number")


@pytest.fixture
def lm() -> Iterator[DummyLM]:
    """A language model that answers everything with ``place``, and records its calls."""
    lm = DummyLM([{"kind": "place", "reasoning": "none", "query": "castle", "why": "so"}] * 40)
    with dspy.context(lm=lm):
        yield lm


def predict() -> dspy.Predict:
    return dspy.Predict("question -> kind")


def few_shot(source: Any, k: int = 3, **keys: Any) -> DemonstrationFewShot:
    return DemonstrationFewShot(source, "questions", k, target="kind", **keys)


def shown(call: dict[str, Any], input: str = "question") -> list[tuple[str, str]]:
    """The demonstrations in a call of the language model: input and target."""
    turns = [message["content"] for message in call["messages"][1:-1]]

    def field(turn: str, name: str) -> str:
        return turn.partition(f"[[ ## {name} ## ]]\n")[2].partition("\n\n")[0].strip()

    return [(field(user, input), field(lm, "kind")) for user, lm in zip(turns[::2], turns[1::2], strict=True)]


def expected(retriever: Retriever, question: str = QUESTION, k: int = 3) -> list[tuple[str, str]]:
    retrieval = retriever.retrieve("questions", {"question": question}, k)
    return [(str(item.input["question"]), item.target) for item in reversed(retrieval)]


class TwoSteps(dspy.Module):
    """Two predictors, of which the second has the demonstrations' target."""

    def __init__(self) -> None:
        super().__init__()
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.Predict("question, query -> kind")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, query=self.search(question=question).query)

    async def aforward(self, question: str) -> Any:
        query = (await self.search.acall(question=question)).query
        return await self.answer.acall(question=question, query=query)


def test_each_call_shows_its_own_demonstrations_and_costs_one_call(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(dspy.ChainOfThought("question -> kind"))
    other = "Who owns the new bridge?"
    assert program(question=QUESTION).kind == "place"
    program(question=other)
    assert [shown(call) for call in lm.history] == [expected(retriever), expected(retriever, other)]
    assert program.demos.target == "kind"


def test_compiling_leaves_the_student_and_the_predictors_unchanged(retriever: Retriever, lm: DummyLM) -> None:
    student, own = predict(), DummyLM([{"kind": "person"}] * 2)
    student.demos = [dspy.Example(question="mine", kind="own")]
    student.set_lm(own)
    program = few_shot(retriever).compile(student)
    assert program(question=QUESTION).kind == "person" and student.get_lm() is own
    assert [predictor.demos for predictor in program.predictors()] == [[]]
    student(question=QUESTION)
    assert [shown(call) for call in own.history] == [expected(retriever), [("mine", "own")]]


def test_fields_and_target_map_the_tasks_names_to_the_programs(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever, fields={"question": "sentence"}).compile(dspy.Predict("sentence, tone -> kind, why"))
    program(sentence=QUESTION, tone="kind")
    assert shown(lm.history[0], "sentence") == expected(retriever)
    with pytest.raises(InvalidInputError, match="input 'sentence' of the program is missing; found 'tone'"):
        program(tone="x")


@pytest.mark.parametrize(
    ("keys", "student", "message"),
    [
        ({"fields": {"question": "sentence"}}, "question -> kind", "has an input 'sentence'; found question"),
        ({}, "question -> label", "has an output 'kind'; found label"),
        ({}, None, "no predictor to show demonstrations to"),
    ],
)
def test_a_program_that_lacks_a_field_is_refused(keys: dict[str, Any], student: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        few_shot(Source(), **keys).compile(dspy.Predict(student) if student else dspy.Module())


def test_choices_are_a_field_of_the_demonstrations() -> None:
    source = Source(replace(WHY, choices=("number", "place")))
    program = few_shot(source).compile(dspy.Predict("question, choices -> kind"))
    demos = program.demos.select({"question": QUESTION, "choices": ["a", "b"]})
    assert demos == [{"question": "why?", "choices": ["number", "place"], "kind": "number"}]


def test_a_call_retrieves_once_and_only_predictors_with_the_target_show_it(
    lm: DummyLM, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(WHY)
    few_shot(source, diversity=0.3).compile(TwoSteps())(question=QUESTION)
    assert source.calls == [("questions", {"question": QUESTION}, 3, {"diversity": 0.3})]
    assert [len(call["messages"]) for call in lm.history] == [2, 2 + 2]
    assert caplog.records == []


@pytest.mark.parametrize("how", ["awaited", "threads", "batch"])
def test_concurrent_calls_keep_their_demonstrations_apart(retriever: Retriever, lm: DummyLM, how: str) -> None:
    program = few_shot(retriever).compile(TwoSteps())
    questions = [f"Where is the {place}?" for place in ("old lake", "new lake", "old bridge", "far harbour")]

    async def await_all() -> None:
        await asyncio.gather(*(program.acall(question=question) for question in questions))

    start = threading.Barrier(len(questions))

    def call(question: str) -> None:
        with dspy.context(lm=lm):
            start.wait()
            program(question=question)

    if how == "awaited":
        asyncio.run(await_all())
    elif how == "threads":
        with ThreadPoolExecutor(len(questions)) as threads:
            list(threads.map(call, questions))
    else:
        examples = [dspy.Example(question=question).with_inputs("question") for question in questions]
        program.batch(examples, num_threads=4, disable_progress_bar=True)
    answers = [call for call in lm.history if "## kind ##" in call["messages"][0]["content"]]
    assert len(answers) == len(questions)
    for question in questions:
        (answer,) = [answer for answer in answers if question in answer["messages"][-1]["content"]]
        assert shown(answer) == expected(retriever, question)


def test_awaiting_does_not_block_the_event_loop(lm: DummyLM) -> None:
    source = Source(WHY)

    async def both() -> None:
        source.release = asyncio.Event()
        call = asyncio.create_task(few_shot(source).compile(predict()).acall(question=QUESTION))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not call.done() and lm.history == []
        source.release.set()
        await call

    asyncio.run(both())
    assert len(lm.history) == 1


@pytest.mark.parametrize("value", ["{", '{"a": {"b": 1}}', r"\frac{a}{b}", "{{ question }}"])
def test_braces_are_unchanged(lm: DummyLM, value: str) -> None:
    few_shot(Source(retrieved({"question": value}, "number"))).compile(predict())(question=value)
    assert shown(lm.history[0]) == [(value, "number")]


def test_compiling_a_compiled_program_replaces_its_source_and_copying_keeps_it(lm: DummyLM) -> None:
    first, second = Source(), Source(WHY)
    program = few_shot(second).compile(few_shot(first).compile(predict())).deepcopy()
    program(question=QUESTION)
    assert first.calls == [] and program.demos.selector.source is second
    assert shown(lm.history[0]) == [("why?", "number")]


def test_the_saved_state_is_json_with_the_sources_location(retriever: Retriever, index: Path, tmp_path: Path) -> None:
    few_shot(retriever, exclude=["q01"]).compile(predict()).save(tmp_path / "program.json")
    state = json.loads((tmp_path / "program.json").read_text("utf-8"))
    selection = {"task": "questions", "k": 3, "order": "nearest_last", "options": {"exclude": ["q01"]}}
    assert state["demonstrations"] == {
        "format": 1,
        **{"source": {"index": str(index)}, "fields": None, "target": "kind"},
        **selection,
    }


def test_loading_a_state_keeps_the_source_and_refuses_other_states(
    retriever: Retriever, lm: DummyLM, tmp_path: Path
) -> None:
    tuned = dspy.Predict(dspy.Signature("question -> kind").with_instructions("Tuned."))
    few_shot(retriever, k=5).compile(tuned).save(tmp_path / "program.json")
    source = Source(WHY)
    program = few_shot(source, k=1).compile(predict())
    program.load(tmp_path / "program.json")
    program(question=QUESTION)
    assert source.calls[0][2] == 5
    assert "Tuned." in lm.history[0]["messages"][0]["content"]
    predict().save(tmp_path / "plain.json")
    with pytest.raises(ArtifactError, match="has no demonstrations"):
        program.load(tmp_path / "plain.json")


def test_a_source_without_a_location_must_be_passed_again(lm: DummyLM, tmp_path: Path) -> None:
    source, path = Source(WHY), tmp_path / "program.json"
    few_shot(source).compile(predict()).save(path)
    with pytest.raises(ArtifactError, match="without the location of its source; pass a source"):
        open_program(predict(), path)
    open_program(predict(), path, source=source)(question=QUESTION)
    assert shown(lm.history[0]) == [("why?", "number")]


def test_a_saved_program_keeps_a_filter_ids_and_that_k_is_the_default(
    retriever: Retriever, lm: DummyLM, tmp_path: Path
) -> None:
    small = Filter.of('id in ["q01", "q02", "q03"]')
    teleprompter = DemonstrationFewShot(retriever, "questions", target="kind", filter=small, exclude={"q02"})  # type: ignore[arg-type]
    teleprompter.compile(predict()).save(tmp_path / "program.json")
    source = Source(WHY)
    open_program(predict(), tmp_path / "program.json", source=source)(question=QUESTION)
    _, _, k, options = source.calls[0]
    assert isinstance(k, DefaultK) and k == 8
    assert (Filter.of(options["filter"]), options["exclude"]) == (small, ["q02"])


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_is_saved_by_its_url_without_its_key(kind: type[Client | AsyncClient], tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    few_shot(kind(URL, api_key="s3cret")).compile(predict()).save(path)
    assert "s3cret" not in path.read_text("utf-8")
    source = open_program(predict(), path).demos.selector.source
    assert type(source) is kind and source.url == URL


@pytest.mark.parametrize("whole", [False, True])
def test_a_saved_program_reopens_its_index(real_index: Path, lm: DummyLM, tmp_path: Path, whole: bool) -> None:
    path = tmp_path / ("program" if whole else "program.json")
    with Retriever.open(real_index) as source:
        program = few_shot(source).compile(predict())
        program.save(path, save_program=whole)
        program(question=QUESTION)
    reopened = dspy.load(path, allow_pickle=True) if whole else open_program(predict(), path)
    assert isinstance(reopened, DemonstrationProgram)
    reopened(question=QUESTION)
    asyncio.run(reopened.acall(question=QUESTION))
    assert lm.history[2]["messages"] == lm.history[1]["messages"] == lm.history[0]["messages"]
    assert len(lm.history[0]["messages"]) == 2 + 2 * 3
