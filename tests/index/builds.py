"""What tests of indexes share: builds with a fake encoder, folders as dictionaries, and child processes."""

import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_task
from udr.search import Vectors
from udr_index.build import BuildConfig, Built, build

REPOSITORY = Path(__file__).parents[2]
WORDS = "river lake harbour island valley castle bridge forest road mill tower field".split()


def build_index(tasks: Path, out: Path, encoder: HashEncoder | None = None, **changes: Any) -> Built:
    return build(BuildConfig(**{"tasks": tasks, "out": out, "bm25": False, **changes}), encoder or HashEncoder())


def write_places(root: Path) -> Path:
    """Write a task of 300 rows, questions, and one of 12, notes."""
    sample = random.Random(0).sample
    questions: list[Mapping[str, Any]] = [
        {"id": f"{n:03}", "input": {"question": f"Where is {' '.join(sample(WORDS, 4))} {n % 90}?"}, "target": "place"}
        for n in range(300)
    ]
    write_task(root, QUESTIONS, train=questions)
    write_task(root, NOTES, train=[{"id": word, "input": {"text": word}, "target": "glad"} for word in WORDS])
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Return every file under a folder, by its path there."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def replace_once(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")


class FailingEncoder(HashEncoder):
    """Fails at the n-th batch, as a machine that runs out of memory does."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.left = batch

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        self.left -= 1
        if not self.left:
            raise MemoryError
        return super().encode_demonstrations(texts)


def start_python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a child process that can import the packages and the tests."""
    paths = [str(REPOSITORY / part) for part in (".", "index")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def write_moods(root: Path, count: int = 160, *, told: bool = True) -> Path:
    """Write the task notes: each row has six words of any note, and one that tells its mood, if the mood is told."""
    draw = random.Random(0)
    moods = {"glad": "fine bright merry sunny".split(), "sad": "dull grey gloomy rainy".split()}
    rows: list[Mapping[str, Any]] = []
    for number in range(count):
        mood, text = draw.choice(sorted(moods)), [*draw.sample(WORDS, 6)]
        text.append(draw.choice(moods[mood if told else draw.choice(sorted(moods))]))
        rows.append({"id": f"n{number:03}", "input": {"text": " ".join(text)}, "target": mood})
    write_task(root, NOTES, train=rows)
    return root


PAIRS: Mapping[str, Any] = {
    "name": "pairs",
    "family": "pair",
    "kind": "classification",
    "instruction": "Say whether both are about the same.",
    "input": "First: {first}\nSecond: {second}",
    "output": "About: {target}",
    "metric": "accuracy",
    "labels": ["same", "other"],
}


def write_pairs(root: Path, count: int = 160, *, by_first: bool = False) -> Path:
    """Write the task pairs: the fields have the same words or others, or the first one alone tells.

    Both together have the same words either way, so a bag of them tells nothing.
    """
    draw, rows = random.Random(0), list[Mapping[str, Any]]()
    for number in range(count):
        target = draw.choice(["same", "other"])
        words = draw.sample(WORDS, 4)
        same = target == "same" or by_first
        first, second = (words, draw.sample(words, 4)) if same else (2 * words[:2], 2 * words[2:])
        if by_first:
            first = [*first, {"same": "bright", "other": "dull"}[target]]
        input = {"first": " ".join(first), "second": " ".join(second)}
        rows.append({"id": f"p{number:03}", "input": input, "target": target})
    write_task(root, PAIRS, train=rows)
    return root
