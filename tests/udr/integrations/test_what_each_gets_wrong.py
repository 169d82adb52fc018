"""The same 20 questions through LangChain's selectors, DSPy's KNN and udr: what each gets wrong, row by row."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install 'udr-icl[langchain]'")
pytest.importorskip("dspy", reason="needs dspy: pip install 'udr-icl[dspy]'")

import dspy
from dspy.utils import DummyLM
from langchain_core.example_selectors import MaxMarginalRelevanceExampleSelector
from langchain_core.prompts import FewShotPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore

from benchmarks.example_selectors import (
    BUDGET,
    EXAMPLE,
    K,
    Library,
    Words,
    braces,
    budget,
    duplicates,
    itself,
    libraries,
    of_langchain,
    pool,
    questions,
    table,
)
from udr.models import DEFAULT_ENCODER, TokenCounter, load_tokenizer

DOCS = (Path(__file__).parents[3] / "docs" / "integrations.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tokenizer() -> TokenCounter:
    return load_tokenizer(DEFAULT_ENCODER)


@pytest.fixture(scope="module")
def chosen(tokenizer: TokenCounter) -> Iterator[list[Library]]:
    with libraries(tokenizer) as chosen:
        yield chosen


@pytest.fixture(scope="module")
def by_name(chosen: list[Library]) -> dict[str, Library]:
    return {library.name: library for library in chosen}


def test_twenty_questions_are_asked_of_a_pool_of_sixty() -> None:
    assert len(set(questions())) == 20 and len(pool()) == 60


def test_every_question_fits_the_budget_without_examples(tokenizer: TokenCounter) -> None:
    signature = dspy.Signature("question -> target", "Answer briefly.")
    for question in questions():
        messages = dspy.ChatAdapter().format(signature, [], {"question": question})
        assert tokenizer.count("\n\n".join(message["content"] for message in messages)) <= BUDGET
        assert tokenizer.count(f"Answer briefly.\n\nQuestion: {question}\nAnswer:") <= BUDGET


def test_braces_break_langchains_text_template_and_pass_through_dspy_and_udr(by_name: dict[str, Library]) -> None:
    broken = {name: sum(braces(library, question) for question in questions()) for name, library in by_name.items()}
    assert broken["LangChain SemanticSimilarity"] == broken["LangChain LengthBased"] == 20
    assert broken["DSPy KNN"] == broken["udr"] == 0


@pytest.mark.parametrize(
    ("target", "happens"),
    [('{"a": 1}', KeyError), ("a { b", ValueError), ("{}", IndexError), ("{{ x }}", "{ x }"), ("{question}", "why?")],
)
def test_langchain_formats_its_examples_twice(target: str, happens: type[Exception] | str) -> None:
    template = FewShotPromptTemplate(
        examples=[{"question": "what?", "target": target}], example_prompt=EXAMPLE, suffix="Question: {question}"
    )
    if isinstance(happens, str):
        assert f"Answer: {happens}\n" in template.format(question="why?")
    else:
        with pytest.raises(happens):
            template.format(question="why?")


def test_only_a_count_of_tokens_keeps_the_budget(by_name: dict[str, Library], tokenizer: TokenCounter) -> None:
    over = {
        name: sum(budget(library, question, tokenizer) for question in questions()) for name, library in by_name.items()
    }
    assert over["LangChain SemanticSimilarity"] > 0 and over["DSPy KNN"] > 0
    assert over["LangChain LengthBased"] == 20
    assert over["LengthBased, counting tokens"] == over["udr"] == over["udr, distinct"] == 0


def test_udr_fills_the_budget_with_the_nearest_examples(by_name: dict[str, Library]) -> None:
    for question in questions():
        udr, lengths = (by_name[name].fitted(question) for name in ("udr", "LengthBased, counting tokens"))
        nearest = by_name["udr"].select(question)[-1]
        assert nearest["question"] in udr
        assert udr.count("Answer:") > 1 and lengths.count("Answer:") > 1
    # The length-based one shows the same first examples whatever is asked.
    shown = [by_name["LengthBased, counting tokens"].select(question)[0] for question in questions()]
    assert all(one == shown[0] for one in shown)


def test_the_question_itself_is_an_example_unless_udr_chooses(by_name: dict[str, Library]) -> None:
    itself_shown = {
        name: sum(itself(library, question) for question in questions()) for name, library in by_name.items()
    }
    assert itself_shown["LangChain SemanticSimilarity"] == itself_shown["DSPy KNN"] == 20
    assert itself_shown["udr"] == 0


def test_copies_take_places_unless_udr_is_told_to_keep_them_distinct(by_name: dict[str, Library]) -> None:
    shown = {name: sum(duplicates(library, question) for question in questions()) for name, library in by_name.items()}
    assert shown["LangChain SemanticSimilarity"] == shown["LangChain LengthBased"] == shown["DSPy KNN"] == 20
    assert shown["udr"] > shown["udr, distinct"] == 0
    assert all(len(by_name["udr, distinct"].select(question)) == K for question in questions())


def test_langchains_mmr_shows_copies_less_often() -> None:
    examples = [dict(pair) for pair in pool()]
    selector = MaxMarginalRelevanceExampleSelector.from_examples(
        examples, Words(), InMemoryVectorStore, k=K, input_keys=["question"]
    )
    library = of_langchain("LangChain MMR", selector)
    doubled = sum(duplicates(library, question) for question in questions())
    assert f"`MaxMarginalRelevanceExampleSelector` shows copies at {doubled} of the 20" in DOCS
    assert sum(itself(library, question) for question in questions()) == 20


def test_dspys_knn_few_shot_calls_the_language_model_for_neighbours_too() -> None:
    trainset = [dspy.Example(**pair).with_inputs("question") for pair in pool()]
    vectorizer = dspy.Embedder(Words().encode_queries, caching=False)
    program = dspy.KNNFewShot(k=3, trainset=trainset, vectorizer=vectorizer).compile(dspy.Predict("question -> target"))
    lm = DummyLM([{"target": "42"}] * 9)
    with dspy.context(lm=lm):
        program(question=questions()[0])
    assert len(lm.history) == 1 + 3


def test_the_table_of_the_documentation_is_what_the_libraries_do(
    chosen: list[Library], tokenizer: TokenCounter
) -> None:
    assert table(chosen, tokenizer) in DOCS
