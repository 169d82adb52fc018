"""What selectors of examples get wrong: the same 20 questions, the same pool and vectors, through each library.

    python benchmarks/example_selectors.py

Prints the table of docs/integrations.md; tests/integrations/test_what_each_gets_wrong.py runs it row by row. Each
library is used as its documentation says. The pool has three rows for each question: the question itself, a related
one, and a copy of that in other letters, as a pool that was exported twice has. A few seconds.
"""

import hashlib
import json
import re
import sys
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
from udr.models import DEFAULT_ENCODER, TokenCounter, load_tokenizer
from udr.search import Metric, Vectors
from udr_index.build import BuildConfig, build

DATA = Path(__file__).parents[1] / "tests" / "udr" / "integrations" / "twenty_questions.jsonl"
K, BUDGET = 8, 220
"""Examples asked for, and the tokens that a prompt may have: each question without examples fits, eight do not."""

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
    """Return the 60 examples that are chosen from."""
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


class Words(Embeddings):
    """Embeds a text by its words, each a place and a sign; an encoder of udr and embeddings of LangChain in one."""

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

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the same as ``encode_queries``."""
        return self.encode_queries(texts)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the same as lists, for LangChain."""
        return [[float(number) for number in vector] for vector in self.encode_queries(texts)]

    def embed_query(self, text: str) -> list[float]:
        """Return the same of one text."""
        return self.embed_documents([text])[0]


@dataclass(frozen=True)
class Library:
    """One way to come from a question to a prompt.

    Attributes:
        name: what the table calls it.
        select: the examples for a question.
        prompt: the prompt, as the library's own templates make it; raises what they raise.
        fitted: the prompt whose tokens are counted, made by templates that never fail.
    """

    name: str
    select: Callable[[str], Sequence[Pair]]
    prompt: Callable[[str], str]
    fitted: Callable[[str], str]


def of_langchain(name: str, selector: BaseExampleSelector) -> Library:
    """Return a selector of LangChain's, in its ``FewShotPromptTemplate``."""
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
    """Return DSPy's KNN, its examples shown by its ``ChatAdapter``."""
    trainset = [dspy.Example(**pair).with_inputs("question") for pair in pool()]
    knn = dspy.KNN(k=K, trainset=trainset, vectorizer=dspy.Embedder(Words().encode_queries, caching=False))
    signature = dspy.Signature("question -> target", "Answer briefly.")

    def prompt(question: str) -> str:
        messages = dspy.ChatAdapter().format(signature, knn(question=question), {"question": question})
        return "\n\n".join(message["content"] for message in messages)

    return Library("DSPy KNN", lambda question: [one.toDict() for one in knn(question=question)], prompt, prompt)


def of_udr(retriever: Retriever, tokenizer: TokenCounter, name: str = "udr", distinct: float | None = None) -> Library:
    """Return udr's selector in LangChain's clothes, and its prompts built for the budget."""
    selector = DemonstrationSelector(retriever, "howto", K, distinct=distinct)
    builder = PromptBuilder(tokenizer, BUDGET)

    def fitted(question: str) -> str:
        retrieval = retriever.retrieve("howto", {"question": question}, K, distinct=distinct)
        return str(builder.build(retriever.tasks["howto"], {"question": question}, retrieval).text)

    shown = of_langchain(name, selector)
    return Library(name, shown.select, prompt=shown.fitted, fitted=fitted)


@contextmanager
def libraries(tokenizer: TokenCounter) -> Iterator[list[Library]]:
    """Yield every library over the same pool and vectors."""
    examples = [dict(pair) for pair in pool()]
    similar = SemanticSimilarityExampleSelector.from_examples(
        examples, Words(), InMemoryVectorStore, k=K, input_keys=["question"]
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
        build(BuildConfig(tasks=Path(folder) / "tasks", out=out), Words())
        with Retriever.open(out, encoder=Words()) as retriever:
            yield [
                of_langchain("LangChain SemanticSimilarity", similar),
                of_langchain("LangChain LengthBased", lengths()),
                of_langchain("LengthBased, counting tokens", lengths(get_text_length=tokenizer.count)),
                of_dspy(),
                of_udr(retriever, tokenizer),
                of_udr(retriever, tokenizer, "udr, distinct", distinct=0.99),
            ]


def braces(library: Library, question: str) -> bool:
    """Whether the prompt fails, or does not hold its examples as they are."""
    try:
        prompt = library.prompt(question)
    except (KeyError, ValueError, IndexError):
        return True
    return any(text not in prompt for pair in library.select(question) for text in pair.values())


def budget(library: Library, question: str, tokenizer: TokenCounter) -> bool:
    """Whether the prompt has more tokens than it may."""
    return tokenizer.count(library.fitted(question)) > BUDGET


def itself(library: Library, question: str) -> bool:
    """Whether the question is among its own examples, its answer with it."""
    return any(pair["question"] == question for pair in library.select(question))


def duplicates(library: Library, question: str) -> bool:
    """Whether two examples are the same question but for case, spaces and punctuation."""
    texts = [normalised(pair["question"]) for pair in library.select(question)]
    return len(set(texts)) < len(texts)


def wrong(chosen: Sequence[Library], tokenizer: TokenCounter) -> dict[str, list[int]]:
    """Return, for each row of the table, at how many of the 20 questions each library is wrong."""
    checks: dict[str, Callable[[Library, str], bool]] = {
        "braces": braces,
        "budget": partial(budget, tokenizer=tokenizer),
        "self": itself,
        "duplicates": duplicates,
    }
    return {
        name: [sum(check(library, question) for question in questions()) for library in chosen]
        for name, check in checks.items()
    }


def table(chosen: Sequence[Library], tokenizer: TokenCounter) -> str:
    """Return the table in Markdown."""
    lines = [
        "| wrong at, of 20 | " + " | ".join(library.name for library in chosen) + " |",
        "|---" * (len(chosen) + 1) + "|",
    ]
    lines += [f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in wrong(chosen, tokenizer).items()]
    return "\n".join(lines)


def main() -> int:
    tokenizer = load_tokenizer(DEFAULT_ENCODER)
    with libraries(tokenizer) as chosen:
        print(table(chosen, tokenizer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
