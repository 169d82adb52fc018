"""The comparison in docs/integrations.md: 20 questions through LangChain's selectors, DSPy's KNN and udr."""

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
    WordEncoder,
    duplicates,
    libraries,
    of_langchain,
    pool,
    questions,
    shows_itself,
    table,
)
from udr.models import BASE_ENCODER, TokenCounter, load_tokenizer

DOCS = " ".join((Path(__file__).parents[3] / "docs" / "integrations.md").read_text("utf-8").split())


@pytest.fixture(scope="module")
def tokenizer() -> TokenCounter:
    return load_tokenizer(BASE_ENCODER)


@pytest.fixture(scope="module")
def by_name(tokenizer: TokenCounter) -> Iterator[dict[str, Library]]:
    with libraries(tokenizer) as chosen:
        yield {library.name: library for library in chosen}


def test_the_table_in_the_documentation_is_correct(by_name: dict[str, Library], tokenizer: TokenCounter) -> None:
    assert len(set(questions())) == 20 and len(pool()) == 60
    assert " ".join(table(list(by_name.values()), tokenizer).split()) in DOCS


def test_every_question_fits_the_budget_without_examples(tokenizer: TokenCounter) -> None:
    signature = dspy.Signature("question -> target", "Answer briefly.")
    for question in questions():
        messages = dspy.ChatAdapter().format(signature, [], {"question": question})
        assert tokenizer.count("\n\n".join(message["content"] for message in messages)) <= BUDGET
        assert tokenizer.count(f"Answer briefly.\n\nQuestion: {question}\nAnswer:") <= BUDGET


@pytest.mark.parametrize(
    ("target", "result"),
    [('{"a": 1}', KeyError), ("a { b", ValueError), ("{}", IndexError), ("{{ x }}", "{ x }"), ("{question}", "why?")],
)
def test_langchain_formats_its_examples_twice(target: str, result: type[Exception] | str) -> None:
    template = FewShotPromptTemplate(
        examples=[{"question": "what?", "target": target}], example_prompt=EXAMPLE, suffix="Question: {question}"
    )
    if isinstance(result, str):
        assert f"Answer: {result}\n" in template.format(question="why?")
    else:
        with pytest.raises(result):
            template.format(question="why?")


def test_udr_fills_the_budget_with_the_nearest_examples(by_name: dict[str, Library]) -> None:
    udr, by_length = by_name["udr"], by_name["LengthBased, counting tokens"]
    for question in questions():
        prompt = udr.fitted(question)
        assert udr.select(question)[-1]["question"] in prompt and prompt.count("Answer:") > 1
        assert len(by_name["udr, distinct"].select(question)) == K
        # The length-based selector starts with the same example for every question.
        assert by_length.select(question)[0] == by_length.select(questions()[0])[0]


def test_langchains_mmr_shows_copies_less_often() -> None:
    selector = MaxMarginalRelevanceExampleSelector.from_examples(
        [dict(pair) for pair in pool()], WordEncoder(), InMemoryVectorStore, k=K, input_keys=["question"]
    )
    library = of_langchain("LangChain MMR", selector)
    count = sum(duplicates(library, question) for question in questions())
    assert f"`MaxMarginalRelevanceExampleSelector` shows copies for {count} of the 20" in DOCS
    assert all(shows_itself(library, question) for question in questions())


def test_dspys_knn_few_shot_also_calls_the_language_model_for_neighbours() -> None:
    trainset = [dspy.Example(**pair).with_inputs("question") for pair in pool()]
    vectorizer = dspy.Embedder(WordEncoder().encode_queries, caching=False)
    program = dspy.KNNFewShot(k=3, trainset=trainset, vectorizer=vectorizer).compile(dspy.Predict("question -> target"))
    lm = DummyLM([{"target": "42"}] * 9)
    with dspy.context(lm=lm):
        program(question=questions()[0])
    assert len(lm.history) == 1 + 3
