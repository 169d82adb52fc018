"""Rows and vectors for ``index.py``, made from numbers: as many as are asked for, the same every time.

Row n has a text that tells n, and the encoder gives it vector n. Vectors lie in clusters of clusters, as those of texts
do: 100 topics, in each of them 100 kinds of text, around each of them its own texts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from udr.search import Metric, Vectors

_TASK = """
name = "made_up"
family = "made_up"
kind = "classification"
instruction = "Say what the text is."
input = "Text: {text}"
output = "Kind: {target}"
metric = "accuracy"
labels = ["one", "other"]
"""
_TOPICS, _KINDS, _SPREAD = 100, 100, 0.6
_WORDS = "river lake harbour island valley castle bridge forest road mill tower field stone water light".split()


def write_numbers(root: Path, count: int) -> Path:
    """Write a task of ``count`` rows, whose texts are numbers."""
    return _write(root, (f"text {number}" for number in range(count)))


def write_sentences(root: Path, count: int, changed: float = 0.0) -> Path:
    """Write a task of ``count`` rows, whose texts are 5 to 60 words; a share of them is changed."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 61, count)
    texts = [
        f"{' '.join(_WORDS[place] for place in generator.integers(0, len(_WORDS), length))} {number}"
        for number, length in enumerate(lengths)
    ]
    step = round(1 / changed) if changed else count + 1
    return _write(root, (f"changed {text}" if number % step == 7 else text for number, text in enumerate(texts)))


def _write(root: Path, texts: Iterator[str]) -> Path:
    folder = root / "made_up"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(_TASK, "utf-8")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number, text in enumerate(texts):
            row = {"id": f"{number:09}", "input": {"text": text}, "target": ("one", "other")[number % 2]}
            lines.write(json.dumps(row) + "\n")
    return root


class MadeUpEncoder:
    """Gives the text that tells n the vector n, of unit length."""

    name = "made-up"
    fingerprint = "made-up"
    metric: Metric = "cosine"

    def __init__(self, dimension: int = 384) -> None:
        self.dimension = dimension
        generator = np.random.default_rng(0)
        topics = generator.standard_normal((_TOPICS, 1, dimension))
        kinds = topics + _SPREAD * generator.standard_normal((_TOPICS, _KINDS, dimension))
        self._kinds = kinds.reshape(-1, dimension)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts that end with their numbers."""
        return self.vectors([int(re.findall(r"\d+", text)[-1]) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the same."""
        return self.encode_demonstrations(texts)

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """Return the vectors of these numbers, float32 [len(numbers), dimension]."""
        vectors = np.empty((len(numbers), self.dimension), np.float32)
        for place, number in enumerate(numbers):
            generator = np.random.default_rng([1, number])
            vectors[place] = self._kinds[generator.integers(len(self._kinds))]
            vectors[place] += _SPREAD * generator.standard_normal(self.dimension, np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
