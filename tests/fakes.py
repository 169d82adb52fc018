"""Stand-ins for what is slow or not ours: a deterministic encoder, and a small collection of tasks."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from udr.search import Metric, Vectors
from udr.types import Json


class HashEncoder:
    """Encodes a text by its words: each adds or takes one at a place that its hash gives. Order does not matter.

    Attributes:
        queries: every query text that was encoded, in the order of the calls.
        demonstrations: every demonstration text.
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
    """Write a task's folder below its family's: ``task.toml`` of these keys, and a JSONL file for each split."""
    folder = root / str(keys["family"]) / str(keys["name"])
    folder.mkdir(parents=True, exist_ok=True)
    # A text or a list of texts reads the same in JSON and in TOML.
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
NOTES: Mapping[str, Json] = {
    "name": "notes",
    "family": "mood",
    "kind": "classification",
    "instruction": "Give the mood of the note.",
    "input": "Note: {text}",
    "output": "Mood: {target}",
    "metric": "accuracy",
    "labels": ["glad", "sad"],
}
REVIEWS: Mapping[str, Json] = {
    "name": "reviews",
    "family": "mood",
    "kind": "classification",
    "instruction": "Give the mood of the review.",
    "input": "Thing: {thing}\nReview: {text}",
    "output": "Mood: {target}",
    "metric": "accuracy",
    "labels": ["glad", "sad"],
}


def write_collection(root: Path) -> Path:
    """Write three tasks of two families to ``root``: 24, 20 and 18 training rows, some of them equal."""
    places = "river lake harbour island valley castle bridge forest".split()
    asked = [("Where is the {}?", "place"), ("Who owns the {}?", "person"), ("How old is the {}?", "number")]
    questions: list[Mapping[str, Json]] = [
        {"id": f"q{number:02}", "input": {"question": question.format(place)}, "target": target}
        for number, (place, (question, target)) in enumerate((place, one) for place in places for one in asked)
    ]
    days = "monday tuesday wednesday thursday friday".split()
    said = [("what a fine {}", "glad"), ("a dull grey {}", "sad"), ("i sang on {}", "glad"), ("i lost it on {}", "sad")]
    notes: list[Mapping[str, Json]] = [
        {"id": f"n{number:02}", "input": {"text": note.format(day)}, "target": target}
        for number, (day, (note, target)) in enumerate((day, one) for day in days for one in said)
    ]
    things = "kettle lamp chair".split()
    # Every review is there twice: ties that only the id decides.
    reviews: list[Mapping[str, Json]] = [
        {
            "id": f"r{copy}{number:02}",
            "input": {"thing": thing, "text": text},
            "target": target,
            "metadata": {"n": number},
        }
        for copy in "ab"
        for number, (thing, (text, target)) in enumerate(
            (thing, one)
            for thing in things
            for one in [("works every day", "glad"), ("broke on monday", "sad"), ('fine "{thing}" 🙂\n\t\\', "glad")]
        )
    ]
    write_task(root, QUESTIONS, train=questions, test=[{**row, "id": f"t-{row['id']}"} for row in questions[:4]])
    write_task(root, NOTES, train=notes)
    write_task(root, REVIEWS, train=reviews)
    (root / "mood" / "family.toml").write_text('instruction = "Give the mood of the text."\n', "utf-8")
    return root
