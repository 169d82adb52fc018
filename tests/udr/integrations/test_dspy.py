"""The teleprompter with DSPy's own modules, adapters and ways to save."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("dspy", reason="needs dspy: pip install 'udr-icl[dspy]'")

import dspy
from dspy.utils import DummyLM

from tests.clients import URL, Service
from tests.tiny_models import save_encoder
from tests.udr.integrations.sources import Source, found
from udr.client import AsyncClient, Client
from udr.errors import ArtifactError, ConfigError, InvalidInputError
from udr.integrations import DemonstrationFewShot, DemonstrationProgram, open_program
from udr.models import SentenceEncoder
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build

QUESTION = "Where is the old castle?"


@pytest.fixture
def lm() -> Iterator[DummyLM]:
    """A language model that answers ``place`` to all that is asked, and remembers it."""
    lm = DummyLM([{"kind": "place", "reasoning": "none", "query": "castle", "why": "so"}] * 200)
    with dspy.context(lm=lm):
        yield lm


def shown(call: dict[str, Any]) -> list[tuple[str, str]]:
    """The demonstrations of a call to the language model: what each asks and answers."""
    turns = call["messages"][1:-1]
    return [
        (
            turns[n]["content"].partition("## ]]\n")[2].strip(),
            turns[n + 1]["content"].partition("## ]]\n")[2].split()[0],
        )
        for n in range(0, len(turns), 2)
    ]


def few_shot(source: Any, k: int = 3, **keys: Any) -> DemonstrationFewShot:
    return DemonstrationFewShot(source, "questions", k, target="kind", **keys)


def expected(retriever: Retriever, question: str = QUESTION, k: int = 3) -> list[tuple[str, str]]:
    retrieved = retriever.retrieve("questions", {"question": question}, k)
    return [(str(one.input["question"]), one.target) for one in reversed(retrieved)]


def test_each_call_shows_its_own_demonstrations_the_nearest_last(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(dspy.Predict("question -> kind"))
    other = "Who owns the new bridge?"
    assert program(question=QUESTION).kind == "place"
    program(question=other)
    assert [shown(call) for call in lm.history] == [expected(retriever), expected(retriever, other)]


def test_a_call_costs_no_more_calls_of_the_language_model_than_the_program_itself(
    retriever: Retriever, lm: DummyLM
) -> None:
    program = few_shot(retriever, k=8).compile(dspy.ChainOfThought("question -> kind"))
    for _ in range(3):
        program(question=QUESTION)
    assert len(lm.history) == 3
    assert all(len(shown(call)) == 8 for call in lm.history)


def test_nothing_is_warned_of(retriever: Retriever, lm: DummyLM, caplog: pytest.LogCaptureFixture) -> None:
    few_shot(retriever).compile(TwoSteps())(question=QUESTION)
    assert caplog.records == []


def test_the_student_and_the_programs_predictors_are_left_as_they_are(retriever: Retriever, lm: DummyLM) -> None:
    student = dspy.Predict("question -> kind")
    student.demos = [dspy.Example(question="mine", kind="own")]
    program = few_shot(retriever).compile(student)
    program(question=QUESTION)
    assert [demo.question for demo in student.demos] == ["mine"]
    assert [predictor.demos for predictor in program.predictors()] == [[]]
    student(question=QUESTION)
    assert shown(lm.history[-1]) == [("mine", "own")]


def test_the_students_language_model_is_kept(retriever: Retriever) -> None:
    student, own = dspy.Predict("question -> kind"), DummyLM([{"kind": "person"}])
    student.set_lm(own)
    program = few_shot(retriever).compile(student)
    assert program(question=QUESTION).kind == "person"
    assert program.get_lm() is not None and student.get_lm() is own


def test_fields_and_target_map_the_tasks_names_to_the_programs(retriever: Retriever, lm: DummyLM) -> None:
    teleprompter = DemonstrationFewShot(retriever, "questions", 3, fields={"question": "sentence"}, target="kind")
    program = teleprompter.compile(dspy.Predict("sentence, tone -> kind, why"))
    program(sentence=QUESTION, tone="kind")
    turns = [message["content"] for message in lm.history[0]["messages"][1:-1]]
    assert [(question, target) for question, target in expected(retriever)] == [
        (
            asked.partition("[[ ## sentence ## ]]\n")[2].partition("\n")[0],
            answered.partition("[[ ## kind ## ]]\n")[2].partition("\n")[0],
        )
        for asked, answered in zip(turns[::2], turns[1::2], strict=True)
    ]


def test_the_target_is_the_last_output_unless_it_is_named(retriever: Retriever) -> None:
    program = DemonstrationFewShot(retriever, "questions").compile(dspy.ChainOfThought("question -> kind"))
    assert program.demos.target == "kind"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"fields": {"question": "sentence"}},
            "no predictor of the program has an input 'sentence'; there are question",
        ),
        ({"target": "label"}, "no predictor of the program has an output 'label'; there are kind"),
    ],
)
def test_a_name_that_the_program_lacks_is_refused_when_it_is_compiled(keys: dict[str, Any], message: str) -> None:
    teleprompter = DemonstrationFewShot(Source(), "questions", **keys)
    with pytest.raises(ConfigError, match=message):
        teleprompter.compile(dspy.Predict("question -> kind"))


def test_a_program_without_predictors_is_refused() -> None:
    with pytest.raises(ConfigError, match="no predictor to show demonstrations to"):
        few_shot(Source()).compile(dspy.Module())


def test_an_input_that_is_missing_is_named(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever, fields={"question": "question"}).compile(dspy.Predict("question -> kind"))
    with pytest.raises(InvalidInputError, match="input 'question' of the program is missing; found 'other'"):
        program(other="x")
    assert lm.history == []


class TwoSteps(dspy.Module):
    """Two predictors; the demonstrations' target is the second one's."""

    def __init__(self) -> None:
        super().__init__()
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.Predict("question, query -> kind")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, query=self.search(question=question).query)

    async def aforward(self, question: str) -> Any:
        query = (await self.search.acall(question=question)).query
        return await self.answer.acall(question=question, query=query)


def test_only_the_predictor_that_has_the_target_shows_demonstrations(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(TwoSteps())
    program(question=QUESTION)
    assert [len(call["messages"]) for call in lm.history] == [2, 2 + 2 * 3]


def test_a_program_is_asked_once_a_call_however_many_predictors_it_has(lm: DummyLM) -> None:
    source = Source(found({"question": "why?"}, "number"))
    few_shot(source, diversity=0.3).compile(TwoSteps())(question=QUESTION)
    assert source.asked == [("questions", {"question": QUESTION}, 3, {"diversity": 0.3})]


def test_awaited_calls_are_the_same_and_keep_their_demonstrations_apart(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(TwoSteps())
    questions = [f"Where is the {place}?" for place in ("old lake", "new lake", "old bridge", "far harbour")]

    async def all_at_once() -> None:
        await asyncio.gather(*(program.acall(question=question) for question in questions))

    asyncio.run(all_at_once())
    check_own(retriever, lm, questions)


def test_threads_keep_their_demonstrations_apart(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(TwoSteps())
    questions = [f"Where is the {age} {place}?" for age in ("old", "new") for place in ("lake", "castle", "bridge")]
    start = threading.Barrier(len(questions))

    def ask(question: str) -> None:
        with dspy.context(lm=lm):
            start.wait()
            program(question=question)

    with ThreadPoolExecutor(len(questions)) as threads:
        list(threads.map(ask, questions))
    check_own(retriever, lm, questions)


def test_dspys_own_threads_show_the_demonstrations_of_their_call(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(TwoSteps())
    questions = [f"Where is the {place}?" for place in ("lake", "castle", "bridge", "valley")]
    examples = [dspy.Example(question=question).with_inputs("question") for question in questions]
    program.batch(examples, num_threads=4, disable_progress_bar=True)
    check_own(retriever, lm, questions)


def check_own(retriever: Retriever, lm: DummyLM, questions: list[str]) -> None:
    answers = [call for call in lm.history if "## kind ##" in call["messages"][0]["content"]]
    assert len(answers) == len(questions)
    for question in questions:
        (call,) = [call for call in answers if question in call["messages"][-1]["content"]]
        turns = [message["content"] for message in call["messages"][1:-1:2]]
        shown = [turn.partition("[[ ## question ## ]]\n")[2].partition("\n")[0] for turn in turns]
        assert shown == [asked for asked, _ in expected(retriever, question)]


def test_awaiting_lets_the_loop_go_on(lm: DummyLM) -> None:
    source = Source(found({"question": "why?"}, "number"), slow=0.1)
    program = few_shot(source).compile(dspy.Predict("question -> kind"))

    async def both() -> None:
        asked, other = asyncio.create_task(program.acall(question=QUESTION)), asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, other.set)
        await other.wait()
        assert not asked.done() and lm.history == []
        await asked

    asyncio.run(both())
    assert len(lm.history) == 1


def test_an_asynchronous_client_answers_awaited_alone(lm: DummyLM) -> None:
    service = Service(httpx2.Response(200, json=Source(found({"question": "why?"}, "number")).retrieval.to_json()))

    async def ask() -> None:
        async with AsyncClient(URL, transport=httpx2.MockTransport(service)) as client:
            program = few_shot(client).compile(dspy.Predict("question -> kind"))
            with pytest.raises(TypeError, match="can only be awaited"):
                program(question=QUESTION)
            await program.acall(question=QUESTION)

    asyncio.run(ask())
    assert shown(lm.history[0]) == [("why?", "number")]


@pytest.mark.parametrize("value", ["{", '{"a": {"b": 1}}', r"\frac{a}{b}", "{question}", "{{ question }}"])
def test_braces_come_out_as_they_went_in(lm: DummyLM, value: str) -> None:
    program = few_shot(Source(found({"question": value}, "number"))).compile(dspy.Predict("question -> kind"))
    program(question=value)
    assert shown(lm.history[0]) == [(value, "number")]


def test_compiling_a_compiled_program_asks_the_new_source_alone(lm: DummyLM) -> None:
    first, second = Source(), Source(found({"question": "why?"}, "number"))
    once = few_shot(first).compile(dspy.Predict("question -> kind"))
    few_shot(second).compile(once)(question=QUESTION)
    assert first.asked == [] and len(second.asked) == 1
    assert shown(lm.history[0]) == [("why?", "number")]


def test_the_saved_state_is_json_and_names_the_source(retriever: Retriever, index: Path, tmp_path: Path) -> None:
    few_shot(retriever, exclude=["q01"]).compile(dspy.Predict("question -> kind")).save(tmp_path / "program.json")
    state = json.loads((tmp_path / "program.json").read_text("utf-8"))
    assert state["demonstrations"] == {
        "source": {"index": str(index)},
        "task": "questions",
        "k": 3,
        "order": "nearest_last",
        "options": {"exclude": ["q01"]},
        "fields": None,
        "target": "kind",
    }


def test_a_loaded_state_takes_over_all_but_the_source(retriever: Retriever, lm: DummyLM, tmp_path: Path) -> None:
    tuned = dspy.Predict(dspy.Signature("question -> kind").with_instructions("Tuned."))
    few_shot(retriever, k=5).compile(tuned).save(tmp_path / "program.json")
    source = Source(found({"question": "why?"}, "number"))
    program = few_shot(source, k=1).compile(dspy.Predict("question -> kind"))
    program.load(tmp_path / "program.json")
    program(question=QUESTION)
    assert source.asked[0][2] == 5
    assert "Tuned." in lm.history[0]["messages"][0]["content"]


def test_a_state_of_another_program_is_refused(tmp_path: Path) -> None:
    dspy.Predict("question -> kind").save(tmp_path / "plain.json")
    program = few_shot(Source()).compile(dspy.Predict("question -> kind"))
    with pytest.raises(ArtifactError, match="holds no demonstrations"):
        program.load(tmp_path / "plain.json")
    with pytest.raises(ArtifactError, match="holds no demonstrations"):
        open_program(dspy.Predict("question -> kind"), tmp_path / "plain.json")


def test_a_source_without_a_place_must_be_given_again(lm: DummyLM, tmp_path: Path) -> None:
    source, path = Source(found({"question": "why?"}, "number")), tmp_path / "program.json"
    few_shot(source).compile(dspy.Predict("question -> kind")).save(path)
    with pytest.raises(ArtifactError, match="no place of its own; give a source"):
        open_program(dspy.Predict("question -> kind"), path)
    open_program(dspy.Predict("question -> kind"), path, source=source)(question=QUESTION)
    assert shown(lm.history[0]) == [("why?", "number")]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_service_is_found_again_by_its_url_and_no_key_is_saved(
    kind: type[Client | AsyncClient], tmp_path: Path
) -> None:
    path = tmp_path / "program.json"
    few_shot(kind(URL, api_key="s3cret")).compile(dspy.Predict("question -> kind")).save(path)
    assert "s3cret" not in path.read_text("utf-8")
    program = open_program(dspy.Predict("question -> kind"), path)
    source = program.demos.selector.source
    assert type(source) is kind and source.url == URL


@pytest.fixture(scope="module")
def real_index(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose encoder can be loaded by its name."""
    folder = tmp_path_factory.mktemp("real")
    model = str(save_encoder(folder / "encoder"))
    build(BuildConfig(tasks=collection, out=folder / "out"), SentenceEncoder.load(model))
    return folder / "out"


def test_a_program_opens_its_index_again_from_json(real_index: Path, lm: DummyLM, tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    with Retriever.open(real_index) as source:
        program = few_shot(source).compile(TwoSteps())
        program.save(path)
        program(question=QUESTION)
    again = open_program(TwoSteps(), path)
    again(question=QUESTION)
    assert shown(lm.history[3]) == shown(lm.history[1]) != []


def test_a_program_that_is_saved_whole_opens_its_index_again(real_index: Path, lm: DummyLM, tmp_path: Path) -> None:
    with Retriever.open(real_index) as source:
        program = few_shot(source).compile(dspy.ChainOfThought("question -> kind"))
        program.save(tmp_path / "program", save_program=True)
        program(question=QUESTION)
    again = dspy.load(tmp_path / "program", allow_pickle=True)
    again(question=QUESTION)
    asyncio.run(again.acall(question=QUESTION))
    assert isinstance(again, DemonstrationProgram)
    assert lm.history[2]["messages"] == lm.history[1]["messages"] == lm.history[0]["messages"]
    assert len(lm.history[0]["messages"]) == 2 + 2 * 3


def test_a_copy_of_a_program_asks_the_same_source(retriever: Retriever, lm: DummyLM) -> None:
    program = few_shot(retriever).compile(dspy.Predict("question -> kind"))
    copy = program.deepcopy()
    copy(question=QUESTION)
    assert copy.demos.selector.source is retriever
    assert shown(lm.history[0]) == expected(retriever)
