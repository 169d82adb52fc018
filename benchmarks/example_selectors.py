"""What selectors of examples get wrong: 20 questions, the same pool and the same vectors, through each library.

    python benchmarks/example_selectors.py

Prints the table of docs/integrations.md in a few seconds; tests/udr/integrations/test_what_each_gets_wrong.py checks
it. Each library is used as its documentation says. The pool has three rows per question: the question itself, a related
one, and a copy of that in other letters, as in a pool that was exported twice.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors import (
    BaseExampleSelector,
    LengthBasedExampleSelector,
    SemanticSimilarityExampleSelector,
)
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore

from udr import PromptBuilder, Retriever
from udr.data import normalised
from udr.integrations import DemonstrationSelector, VerbatimFewShotPromptTemplate
from udr.models import BASE_ENCODER, TokenCounter, load_tokenizer
from udr.search import Metric, Vectors
from udr_index.build import BuildConfig, build

DATA = Path(__file__).parents[1] / "tests" / "udr" / "integrations" / "twenty_questions.jsonl"
K, BUDGET = 8, 220
"""How many examples, and the tokens of a prompt: every question fits without examples, but not with eight."""

TASK = """
name = "howto"
family = "howto"
kind = "generation"
instruction = "Answer briefly."
input = "Question: {question}"
output = "Answer: {target}"
metric = "exact_match"
"""
EXAMPLE = PromptTemplate.from_template("Question: {question}\nAnswer: {target}")

Pair = Mapping[str, str]
"""An example: question and target."""


def questions() -> list[str]:
    """Return the 20 questions."""
    return [json.loads(line)["question"] for line in DATA.read_text("utf-8").splitlines()]


def pool() -> list[Pair]:
    """Return the 60 examples to select from."""
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    return [
        {"question": question, "target": target}
        for row in rows
        for question, target in (
            (row["question"], row["answer"]),
            (row["related"], row["related_answer"]),
            (f"{row['related'].upper().rstrip('?.')} ?", row["related_answer"]),
        )
    ]


class WordEncoder(Embeddings):
    """Encodes a text by its words, each a position and a sign; both a udr encoder and LangChain embeddings."""

    name, dimension, fingerprint = "words", 256, "5c0ffee5c0ffee00"
    metric: Metric = "cosine"

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, for udr and DSPy."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            vector[0] = 0.01
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(word.encode()).digest()
                vector[int.from_bytes(digest[:4]) % self.dimension] += 1 if digest[4] % 2 else -1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    encode_demonstrations = encode_queries

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors as lists, for LangChain."""
        return [[float(number) for number in vector] for vector in self.encode_queries(texts)]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text as a list."""
        return self.embed_documents([text])[0]


@dataclass(frozen=True)
class Library:
    """One way from a question to a prompt.

    Attributes:
        name: its name in the table.
        select: returns the examples for a question.
        prompt: returns the prompt of the library's own templates, or raises their errors.
        fitted: returns the prompt whose tokens are counted, from templates that never raise.
    """

    name: str
    select: Callable[[str], Sequence[Pair]]
    prompt: Callable[[str], str]
    fitted: Callable[[str], str]


def of_langchain(name: str, selector: BaseExampleSelector) -> Library:
    """Return a selector of LangChain in its ``FewShotPromptTemplate``."""
    parts: dict[str, Any] = {
        "example_selector": selector,
        "example_prompt": EXAMPLE,
        "prefix": "Answer briefly.",
        "suffix": "Question: {question}\nAnswer:",
    }
    own, safe = FewShotPromptTemplate(**parts), VerbatimFewShotPromptTemplate(**parts)
    return Library(
        name,
        select=lambda question: selector.select_examples({"question": question}),
        prompt=lambda question: own.format(question=question),
        fitted=lambda question: safe.format(question=question),
    )


def of_dspy() -> Library:
    """Return DSPy's KNN in its ``ChatAdapter``."""
    trainset = [dspy.Example(**pair).with_inputs("question") for pair in pool()]
    knn = dspy.KNN(k=K, trainset=trainset, vectorizer=dspy.Embedder(WordEncoder().encode_queries, caching=False))
    signature = dspy.Signature("question -> target", "Answer briefly.")

    def prompt(question: str) -> str:
        messages = dspy.ChatAdapter().format(signature, knn(question=question), {"question": question})
        return "\n\n".join(message["content"] for message in messages)

    return Library(
        "DSPy KNN", lambda question: [example.toDict() for example in knn(question=question)], prompt, prompt
    )


def of_udr(retriever: Retriever, tokenizer: TokenCounter, name: str = "udr", distinct: float | None = None) -> Library:
    """Return udr's LangChain selector, and its own prompts within the budget."""
    selector = DemonstrationSelector(retriever, "howto", K, distinct=distinct)
    builder = PromptBuilder(tokenizer, BUDGET)

    def fitted(question: str) -> str:
        retrieval = retriever.retrieve("howto", {"question": question}, K, distinct=distinct)
        return str(builder.build(retriever.tasks["howto"], {"question": question}, retrieval).text)

    in_langchain = of_langchain(name, selector)
    return Library(name, in_langchain.select, prompt=in_langchain.fitted, fitted=fitted)


@contextmanager
def libraries(tokenizer: TokenCounter) -> Iterator[list[Library]]:
    """Yield every library over the same pool and vectors."""
    examples = [dict(pair) for pair in pool()]
    similar = SemanticSimilarityExampleSelector.from_examples(
        examples, WordEncoder(), InMemoryVectorStore, k=K, input_keys=["question"]
    )
    lengths = partial(LengthBasedExampleSelector, examples=examples, example_prompt=EXAMPLE, max_length=BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "tasks" / "howto" / "howto"
        task.mkdir(parents=True)
        (task / "task.toml").write_text(TASK, "utf-8")
        rows = [
            json.dumps({"id": f"{n:02}", "input": {"question": pair["question"]}, "target": pair["target"]})
            for n, pair in enumerate(pool())
        ]
        (task / "train.jsonl").write_text("\n".join(rows), "utf-8")
        out = Path(folder) / "index"
        build(BuildConfig(tasks=Path(folder) / "tasks", out=out), WordEncoder())
        with Retriever.open(out, encoder=WordEncoder()) as retriever:
            yield [
                of_langchain("LangChain SemanticSimilarity", similar),
                of_langchain("LangChain LengthBased", lengths()),
                of_langchain("LengthBased, counting tokens", lengths(get_text_length=tokenizer.count)),
                of_dspy(),
                of_udr(retriever, tokenizer),
                of_udr(retriever, tokenizer, "udr, distinct", distinct=0.99),
            ]


def breaks_braces(library: Library, question: str) -> bool:
    """Return whether the prompt raises, or changes its examples."""
    try:
        prompt = library.prompt(question)
    except (KeyError, ValueError, IndexError):
        return True
    return any(text not in prompt for pair in library.select(question) for text in pair.values())


def shows_itself(library: Library, question: str) -> bool:
    """Return whether the question is one of its own examples."""
    return any(pair["question"] == question for pair in library.select(question))


def duplicates(library: Library, question: str) -> bool:
    """Return whether two examples are equal apart from case, spaces and punctuation other than operators."""
    texts = [normalised(pair["question"]) for pair in library.select(question)]
    return len(set(texts)) < len(texts)


def table(chosen: Sequence[Library], tokenizer: TokenCounter) -> str:
    """Return the Markdown table of how many of the 20 questions each library gets wrong."""
    checks: dict[str, Callable[[Library, str], bool]] = {
        "braces": breaks_braces,
        "budget": lambda library, question: tokenizer.count(library.fitted(question)) > BUDGET,
        "self": shows_itself,
        "duplicates": duplicates,
    }
    lines = [
        "| wrong, of 20 | " + " | ".join(library.name for library in chosen) + " |",
        "|---" * (len(chosen) + 1) + "|",
    ]
    for name, check in checks.items():
        counts = [sum(check(library, question) for question in questions()) for library in chosen]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    counter = load_tokenizer(BASE_ENCODER)
    with libraries(counter) as chosen:
        print(table(chosen, counter))
