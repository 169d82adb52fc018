"""A deterministic encoder, a language model of numbers, and a small collection of tasks."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.search import Metric, Vectors
from udr.types import Json


class HashEncoder:
    """Encodes a text by its words, in any order: each word's hash gives a position and a sign.

    Attributes:
        queries: the encoded query texts, in the order of the calls.
        demonstrations: the encoded demonstration texts.
    """

    def __init__(self, dimension: int = 48, metric: Metric = "cosine", salt: str = "", name: str = "fake-hash") -> None:
        self.name, self.dimension, self.metric, self._salt = name, dimension, metric, salt
        self.fingerprint = hashlib.sha256(f"{dimension} {metric} {salt}".encode()).hexdigest()[:16]
        self.queries: list[str] = []
        self.demonstrations: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.queries += texts
        return self._encode(texts)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        self.demonstrations += texts
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(f"{self._salt}{word}".encode()).digest()
                vector[int.from_bytes(digest[:4]) % self.dimension] += 1 if digest[4] % 2 else -1
            if self.metric == "cosine":
                length = np.linalg.norm(vector)
                vector[:] = vector / length if length else np.eye(self.dimension, dtype=np.float32)[0]
        return vectors


def write_task(root: Path, keys: Mapping[str, Json], **splits: Sequence[Mapping[str, Json]]) -> Path:
    """Write a task's folder below its family's: ``task.toml``, and a JSONL file for each split."""
    folder = root / str(keys["family"]) / str(keys["name"])
    folder.mkdir(parents=True, exist_ok=True)
    # Strings and lists of strings are the same in JSON and TOML.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in keys.items()]
    (folder / "task.toml").write_text("\n".join(lines) + "\n", "utf-8")
    for split, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, "utf-8")
    return folder


QUESTIONS: Mapping[str, Json] = {
    "name": "questions",
    "family": "topic",
    "kind": "classification",
    "instruction": "Give the type of answer the question asks for.",
    "input": "Question: {question}",
    "output": "Answer type: {target}",
    "metric": "accuracy",
    "labels": ["place", "person", "number"],
}
_MOOD: Mapping[str, Json] = {**QUESTIONS, "family": "mood", "output": "Mood: {target}", "labels": ["glad", "sad"]}
NOTES = {**_MOOD, "name": "notes", "instruction": "Give the mood of the note.", "input": "Note: {text}"}
REVIEWS = {
    **{**_MOOD, "name": "reviews", "instruction": "Give the mood of the review."},
    "input": "Thing: {thing}\nReview: {text}",
}


def _rows(prefix: str, field: str, words: str, texts: Mapping[str, str]) -> list[Mapping[str, Json]]:
    """Every text (and its target) with every word in its braces."""
    return [
        {"id": f"{prefix}{number:02}", "input": {field: text.format(word)}, "target": target}
        for number, (word, (text, target)) in enumerate(product(words.split(), texts.items()))
    ]


def write_mapped_notes(root: Path) -> Path:
    """Write the task ``notes`` with so many rows that its arrays are mapped; small ones are read into memory."""
    rows: list[Mapping[str, Json]] = [
        {"id": str(n), "input": {"text": f"{n} dull days, and a monday in may"}, "target": "sad"} for n in range(700)
    ]
    return write_task(root, NOTES, train=rows)


def write_collection(root: Path) -> Path:
    """Write three tasks of two families to ``root``: 24, 20 and 18 training rows, some of them equal."""
    asked = {"Where is the {}?": "place", "Who owns the {}?": "person", "How old is the {}?": "number"}
    questions = _rows("q", "question", "river lake harbour island valley castle bridge forest", asked)
    moods = {"what a fine {}": "glad", "a dull grey {}": "sad", "i sang on {}": "glad", "i lost it on {}": "sad"}
    notes = _rows("n", "text", "monday tuesday wednesday thursday friday", moods)
    texts = {"works every day": "glad", "broke on monday": "sad", 'fine "{thing}" 🙂\n\t\\': "glad"}
    pairs = list(product(["kettle", "lamp", "chair"], texts))
    # Every review occurs twice: ties that only the id breaks.
    reviews: list[Mapping[str, Json]] = [
        {
            "id": f"r{copy}{n:02}",
            "input": {"thing": thing, "text": text},
            "target": texts[text],
            "metadata": {"n": n},
        }
        for copy in "ab"
        for n, (thing, text) in enumerate(pairs)
    ]
    write_task(root, QUESTIONS, train=questions, test=[{**row, "id": f"t-{row['id']}"} for row in questions[:4]])
    write_task(root, NOTES, train=notes)
    write_task(root, REVIEWS, train=reviews)
    (root / "mood" / "family.toml").write_text('instruction = "Give the mood of the text."\n', "utf-8")
    return root


LIKELY_NEXT, LIKELY_SAME, LIKELY_BEFORE, LIKELY_OTHER = 0.8, 0.4, 0.2, 0.1


class CountingLM:
    """A language model that reads numbers: the next one is likely, one of the same hundred less, the one before less.

    It keeps what it has read in ``read``.
    """

    fingerprint = "counting"

    def __init__(self, context: int = 2_048) -> None:
        self.context, self.read = context, list[Sequence[int]]()

    def tokens(self, text: str) -> tuple[int, ...]:
        return (int(text.strip(" .")),)

    def token_log_likelihoods(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float64]]:
        self.read += texts
        return [np.log([self._chance(text[:at], token) for at, token in enumerate(text)]) for text in texts]

    def _chance(self, before: Sequence[int], token: int) -> float:
        if before and before[-1] == token - 1:
            return LIKELY_NEXT
        if before and before[-1] == token + 1:
            return LIKELY_BEFORE
        return LIKELY_SAME if any(other // 100 == token // 100 for other in before) else LIKELY_OTHER


def counting(*numbers: int) -> list[str]:
    """Return a sentence of each number, for ``CountingLM``."""
    return [f"{number}." for number in numbers]


def load_counting_lm(name: str, device: str) -> CountingLM:
    """Load ``CountingLM``, as the entry point of a package does; a name that is none of its raises."""
    assert (name, device) in {("counts", "cpu"), ("counts", "cuda")}
    return CountingLM()


def install_entry_point(folder: Path, group: str, target: str) -> None:
    """Write the metadata of an installed package with an entry point into a folder of ``sys.path``."""
    (info := folder / "a_package-1.0.dist-info").mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-package\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\nfake = {target}\n", "utf-8")
