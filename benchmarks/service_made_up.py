"""Generated tasks and requests for ``service.py``, the same every time.

Four tasks of one family; by default a sentence has about a hundred characters. All requests differ, so that no cache
answers them.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.models import EXACT, INT8
from udr.store import read_current
from udr_index.build import BuildConfig, build

TASKS = ("letters", "notes", "reports", "reviews")
K = 8

_TASK = """
name = "{name}"
family = "made_up"
kind = "classification"
instruction = "Say what the text is about."
input = "Text: {{text}}"
output = "About: {{target}}"
metric = "accuracy"
labels = ["nature", "people"]
"""
_WORDS = """
river lake harbour island valley castle bridge forest road mill tower field stone water light winter summer morning
evening storm farmer sailor teacher doctor mother father sister brother child friend neighbour stranger king queen
soldier painter singer writer dances sings reads writes walks runs sleeps waits listens remembers forgets builds breaks
finds loses sells buys carries watches follows quiet loud old young tall small bright dark warm cold empty full near far
""".split()


@dataclass(frozen=True, slots=True)
class Words:
    """The least and the largest number of words in a sentence."""

    least: int = 17
    most: int = 17


HUNDRED = Words()
"""About a hundred characters."""


def sentence(seed: str, words: Words = HUNDRED) -> str:
    """Return the sentence of a seed."""
    generator = random.Random(seed)
    return " ".join(generator.choices(_WORDS, k=generator.randint(words.least, words.most)))


def request_of(number: int, words: Words = HUNDRED) -> Mapping[str, str | int]:
    """Return request ``number``."""
    text = f"{sentence(f'query {number}', words)} {number}"
    return {"task": TASKS[number % len(TASKS)], "input": text, "k": K}


@dataclass(frozen=True, slots=True)
class MadeUp:
    """An index of two versions, or one.

    Attributes:
        index: its directory.
        versions: their names; in the second, a tenth of the rows differ.
        rows: the number of demonstrations in each.
    """

    index: Path
    versions: tuple[str, ...]
    rows: int


def made_up(folder: Path, rows: int, *, int8: bool = False, versions: int = 2, device: str = "cpu") -> MadeUp:
    """Return the index, built below ``folder`` on a device unless it exists.

    ``int8`` adds a graph of queries in 8 bits.
    """
    index, kept = folder / "index", folder / "versions.json"
    if not kept.exists():
        names = []
        for turn in range(versions):
            tasks = _write(folder / f"tasks-{turn}", rows, turn)
            engine = INT8 if int8 else EXACT
            build(BuildConfig(tasks=tasks, out=index, device=device, engine=engine, reuse=index if turn else None))
            names.append(read_current(index))
        kept.write_text(json.dumps(names), "utf-8")
    return MadeUp(index, tuple(json.loads(kept.read_text("utf-8"))), rows)


def _write(root: Path, rows: int, turn: int) -> Path:
    for offset, name in enumerate(TASKS):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.toml").write_text(_TASK.format(name=name), "utf-8")
        with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
            for number in range(offset, rows, len(TASKS)):
                seed = f"row {number} {turn}" if number // len(TASKS) % 10 == 0 else f"row {number}"
                target = ("nature", "people")[number % 3 % 2]
                row = {"id": f"{number:06}", "input": {"text": sentence(seed)}, "target": target}
                lines.write(json.dumps(row) + "\n")
    return root
