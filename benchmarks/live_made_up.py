"""Generated rows for ``live.py``, the same every time; each has a number in its metadata, by which filters choose."""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from service_made_up import K, Words, sentence

from udr.models import BASE_ENCODER, SentenceEncoder
from udr.search import Metric, Vectors
from udr_index.build import BuildConfig, build
from udr_index.versions import export_encoder

TASK, PARTS = "made_up", 10_000

_TASK = """
name = "made_up"
family = "made_up"
kind = "classification"
instruction = "Say what the text is about."
input = "Text: {text}"
output = "About: {target}"
metric = "accuracy"
labels = ["nature", "people"]
"""


def part_of(number: int) -> int:
    """Return the number, from 0 to ``PARTS`` - 1, in the metadata of a row; each occurs as often as any other."""
    return number * 7919 % PARTS


def row(number: int, text: str) -> dict[str, object]:
    """Return a row without its id."""
    target = ("nature", "people")[number % 3 % 2]
    return {"input": {"text": text}, "target": target, "metadata": {"part": part_of(number)}}


def written(number: int) -> dict[str, object]:
    """Return a row that is put: with a text that no other row has."""
    return row(number, f"{sentence(f'written {number}')} {number}")


def request_of(number: int, words: Words) -> Mapping[str, str | int]:
    """Return request ``number``; all differ."""
    return {"task": TASK, "input": f"{sentence(f'query {number}', words)} {number}", "k": K}


def write_rows(root: Path, count: int, text: Callable[[int], str]) -> Path:
    """Write a task of ``count`` rows; row n has the id n, of nine digits."""
    folder = root / TASK
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(_TASK, "utf-8")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            lines.write(json.dumps({"id": f"{number:09}", **row(number, text(number))}) + "\n")
    return root


class MadeUpDemonstrations:
    """The embedded encoder, but for the vectors of demonstrations: a service encodes queries, not the pool."""

    name, metric = BASE_ENCODER, "cosine"

    def __init__(self) -> None:
        self._real = SentenceEncoder.load(BASE_ENCODER, "cpu")
        self.fingerprint, self.dimension = self._real.fingerprint, self._real.dimension
        self.metric: Metric = self._real.metric

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return a vector of unit length for each text, the same for equal texts."""
        seeds = [zlib.crc32(text.encode()) for text in texts]
        vectors = np.stack([np.random.default_rng(seed).standard_normal(self.dimension, np.float32) for seed in seeds])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the real vectors."""
        return self._real.encode_queries(texts)


def pool(folder: Path, count: int) -> Path:
    """Return an index of ``count`` rows that carries its encoder, built below ``folder`` unless it exists."""
    index = folder / f"index-{count}"
    if not index.exists():
        tasks = write_rows(folder / f"tasks-{count}", count, lambda number: sentence(f"row {number}"))
        building = folder / f"building-{count}"
        shutil.rmtree(building, ignore_errors=True)
        build(BuildConfig(tasks=tasks, out=building, label_head=False), MadeUpDemonstrations())
        export_encoder(building)
        building.rename(index)
    return index
