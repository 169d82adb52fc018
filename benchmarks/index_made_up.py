"""Rows and vectors for ``index.py`` and others, generated from numbers: as many as needed, and the same every time.

The text of row n contains n, and the encoder returns vector n for it. As vectors of texts do, they form clusters of
clusters: 100 topics, 100 kinds of text in each, and texts around each kind.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from udr.search import Metric, Vectors

TASK = "made_up"
_DEFINITION = """
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
    """Write a task of ``count`` rows whose texts are numbers."""
    return write_texts(root, (f"text {number}" for number in range(count)))


def write_sentences(root: Path, count: int, changed: float = 0.0) -> Path:
    """Write a task of ``count`` rows whose texts have 5 to 60 words; a share of them is changed."""
    generator = np.random.default_rng(0)
    texts = [
        f"{' '.join(_WORDS[n] for n in generator.integers(0, len(_WORDS), length))} {number}"
        for number, length in enumerate(generator.integers(5, 61, count))
    ]
    step = round(1 / changed) if changed else count + 1
    return write_texts(root, (f"changed {text}" if number % step == 7 else text for number, text in enumerate(texts)))


def write_texts(root: Path, texts: Iterable[str], fields: Callable[[int], dict[str, int]] | None = None) -> Path:
    """Write a task of rows with these texts, and with metadata by their numbers."""
    folder = root / TASK
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number, text in enumerate(texts):
            row = {"id": f"{number:09}", "input": {"text": text}, "target": ("one", "other")[number % 2]}
            lines.write(json.dumps(row | ({"metadata": fields(number)} if fields else {})) + "\n")
    # The last file, since one that was interrupted is to be written again.
    (folder / "task.toml").write_text(_DEFINITION, "utf-8")
    return root


class MadeUpEncoder:
    """Returns vector n, of unit length, for a text that ends with n."""

    name = fingerprint = "made-up"
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

    encode_queries = encode_demonstrations

    def vectors(self, numbers: Sequence[int]) -> Vectors:
        """Return the vectors of these numbers, float32 [len(numbers), dimension]."""
        vectors = np.empty((len(numbers), self.dimension), np.float32)
        for vector, number in zip(vectors, numbers, strict=True):
            generator = np.random.default_rng([1, number])
            vector[:] = self._kinds[generator.integers(len(self._kinds))]
            vector += _SPREAD * generator.standard_normal(self.dimension, np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def drawn(self, count: int) -> Vectors:
        """Return other vectors of the same clusters, all drawn at once: a million in seconds rather than a minute."""
        generator = np.random.default_rng(2)
        vectors = generator.standard_normal((count, self.dimension), np.float32)
        vectors *= _SPREAD
        vectors += self._kinds.astype(np.float32)[generator.integers(len(self._kinds), size=count)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
