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
    return build(BuildConfig(tasks=tasks, out=out, **changes), encoder or HashEncoder())


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
