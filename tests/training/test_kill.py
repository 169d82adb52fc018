"""Killed again and again, ``udr feedback score`` scores nothing twice, and ``udr train`` ends with the same model."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import REVIEWS
from udr.models import fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = 10

Start = Callable[[str, Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(lm_folder: Path, encoder_folder: Path, tmp_path: Path) -> Start:
    """Starts a command on 80 reviews and a run directory."""
    folder = tmp_path / "tasks" / "opinion" / "reviews"
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(REVIEWS, "utf-8")
    texts = [f"number {n} of {n % 7} is {n % 13}" for n in range(80)]
    rows = [{"id": str(n), "input": {"text": text}, "target": "good"} for n, text in enumerate(texts)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")

    def start(command: str, run: Path) -> "subprocess.Popen[bytes]":
        sizes = {
            "feedback score": "--queries 60 --candidates 16 --pack-tokens 64",
            "train": f"--model {encoder_folder} --queries 40 --candidates 12 --iterations 2 --epochs 6 --batch-size 6 "
            "--learning-rate 1e-3",
        }
        arguments = [*command.split(), tmp_path / "tasks", "--lm", lm_folder, *sizes[command].split(), "--out", run]
        program = [sys.executable, "-c", "import sys; from udr.cli import main; sys.exit(main())"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*program, *map(str, arguments)], stdout=quiet, stderr=quiet, env=environment)

    return start


def kill(process: "subprocess.Popen[bytes]") -> bool:
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def stored(run: Path) -> tuple[dict[tuple[bytes, bytes], list[float]], int]:
    """Return the scores by the digests of their texts, and the number of computed pairs."""
    with sqlite3.connect(run / "feedback.sqlite") as connection:
        rows = connection.execute(
            "SELECT d.digest, q.digest, log_likelihoods FROM score "
            "JOIN text d ON d.id = demonstration JOIN text q ON q.id = query"
        ).fetchall()
        (computed,) = connection.execute("SELECT sum(pairs) FROM work").fetchone()
    connection.close()
    return {
        (demonstration, query): np.frombuffer(sums, "<f4").tolist() for demonstration, query, sums in rows
    }, computed


def test_killed_scoring_loses_nothing_and_computes_nothing_twice(start: Start, tmp_path: Path) -> None:
    def start_scoring(run: Path) -> "subprocess.Popen[bytes]":
        process = start("feedback score", run)
        while not (run / "feedback.sqlite-wal").exists() and process.poll() is None:
            time.sleep(0.01)
        return process

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start_scoring(whole)
    started = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - started
    expected, computed = stored(whole)
    assert len(expected) == computed == 60 * 16

    generator, kept = random.Random(0), []
    for _ in range(KILLS):
        process = start_scoring(killed)
        time.sleep(generator.uniform(0, seconds / KILLS))
        assert kill(process)
        kept.append(len(stored(killed)[0]))
    assert kept == sorted(kept) and 0 < kept[-1] < 60 * 16, f"no kill hit the scoring: {kept}"
    assert start("feedback score", killed).wait() == 0
    scores, computed = stored(killed)
    assert scores.keys() == expected.keys() and computed == len(scores)
    for key, sums in expected.items():
        np.testing.assert_allclose(scores[key], sums, atol=1e-4)


def stage(run: Path) -> str:
    """Return the stage of a run, by the files that it has written."""
    for number in (1, 0):
        for file, name in (("model", "after"), ("metrics.jsonl", "training"), ("candidates.json", "feedback")):
            if (run / f"iteration-{number}" / file).exists():
                return f"{name} {number}"
    return "before"


def test_run_killed_in_every_stage_ends_with_the_same_model(start: Start, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("train", whole).wait() == 0
    hit = []
    # Kill each stage soon after it begins; mining is "after 0".
    for wanted in ("feedback 0", "feedback 0", "training 0", "training 0", "after 0", "feedback 1", "training 1"):
        process = start("train", killed)
        while stage(killed) != wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        if kill(process):
            hit.append(wanted)
    assert {"feedback 0", "training 0", "after 0"} <= set(hit), f"the kills missed stages: {hit}"
    assert start("train", killed).wait() == 0
    assert fingerprint(whole / "model") == fingerprint(killed / "model")
    histories = [(run / "iteration-1" / "metrics.jsonl").read_text("utf-8") for run in (whole, killed)]
    assert histories[0] == histories[1]
