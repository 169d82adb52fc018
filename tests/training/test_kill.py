"""Killed again and again: ``udr feedback score`` scores nothing twice, ``udr train`` ends with the same model."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import save_encoder, save_lm
from udr.models import fingerprint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = 20
SIZES = ["--queries", "60", "--candidates", "16", "--pack-tokens", "64"]

Stored = dict[tuple[bytes, bytes], list[float]]


def start(tasks: Path, lm: Path, run: Path) -> "subprocess.Popen[bytes]":
    return udr("feedback", "score", str(tasks), "--lm", str(lm), *SIZES, "--out", str(run))


def udr(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "import sys; from udr.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def stored(run: Path) -> Stored:
    """What a store holds, by the digests of the texts, since the numbers of texts depend on the order of work."""
    with sqlite3.connect(run / "feedback.sqlite") as connection:
        rows = connection.execute(
            "SELECT d.digest, q.digest, log_likelihoods FROM score "
            "JOIN text d ON d.id = demonstration JOIN text q ON q.id = query"
        ).fetchall()
    connection.close()
    return {(demonstration, query): np.frombuffer(said, "<f4").tolist() for demonstration, query, said in rows}


def computed(run: Path) -> int:
    with sqlite3.connect(run / "feedback.sqlite") as connection:
        (pairs,) = connection.execute("SELECT sum(pairs) FROM work").fetchone()
    connection.close()
    return int(pairs or 0)


def scoring_begins(process: "subprocess.Popen[bytes]", run: Path) -> None:
    while not (run / "feedback.sqlite-wal").exists() and process.poll() is None:
        time.sleep(0.01)


def write_task(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(
        'name = "reviews"\nfamily = "opinion"\nkind = "classification"\ninstruction = "Good or bad?"\n'
        'input = "Review: {text}"\noutput = "Verdict: {target}"\nmetric = "accuracy"\nlabels = ["good", "bad"]\n',
        "utf-8",
    )
    (folder / "train.jsonl").write_text(
        "".join(
            f'{{"id": "{n}", "input": {{"text": "number {n} of {n % 7} is {n % 13}"}}, "target": "good"}}\n'
            for n in range(80)
        ),
        "utf-8",
    )


def test_twenty_kills_lose_nothing_and_compute_nothing_twice(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks" / "opinion" / "reviews")
    lm = save_lm(tmp_path / "lm")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(tmp_path / "tasks", lm, whole)
    scoring_begins(process, whole)
    began = time.monotonic()
    assert process.wait() == 0
    lasted = time.monotonic() - began
    assert len(stored(whole)) == computed(whole) == 60 * 16

    generator = random.Random(0)
    kept = []
    for _ in range(KILLS):
        process = start(tmp_path / "tasks", lm, killed)
        scoring_begins(process, killed)
        time.sleep(generator.uniform(0, lasted / KILLS))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kept.append(len(stored(killed)))
    assert kept == sorted(kept) and 0 < kept[-1] < 60 * 16, f"the kills did not fall into the scoring: {kept}"
    assert start(tmp_path / "tasks", lm, killed).wait() == 0
    undisturbed, disturbed = stored(whole), stored(killed)
    assert disturbed.keys() == undisturbed.keys()
    assert computed(killed) == len(disturbed)
    for key, said in undisturbed.items():
        np.testing.assert_allclose(disturbed[key], said, atol=1e-4)


def test_a_run_that_is_killed_in_every_stage_ends_with_the_same_model(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks" / "opinion" / "reviews")
    lm, encoder = save_lm(tmp_path / "lm"), save_encoder(tmp_path / "encoder")
    sizes = ["--queries", "40", "--candidates", "12", "--iterations", "2", "--epochs", "6", "--batch-size", "6"]

    def train(run: Path) -> "subprocess.Popen[bytes]":
        models = ["--lm", str(lm), "--model", str(encoder), "--learning-rate", "1e-3"]
        return udr("train", str(tmp_path / "tasks"), *sizes, *models, "--out", str(run))

    def stage(run: Path) -> str:
        """Which stage a run is in, by what it has written."""
        for number in (1, 0):
            folder = run / f"iteration-{number}"
            if (folder / "model").exists():
                return f"after {number}"
            if (folder / "metrics.jsonl").exists():
                return f"training {number}"
            if (folder / "candidates.json").exists():
                return f"feedback {number}"
        return "before"

    assert train(tmp_path / "whole").wait() == 0
    seen = []
    # One kill for each stage that can be told, as soon as it has begun and a little later; mining is "after 0".
    for wanted in ("feedback 0", "feedback 0", "training 0", "training 0", "after 0", "feedback 1", "training 1"):
        process = train(tmp_path / "killed")
        while stage(tmp_path / "killed") != wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            seen.append(wanted)
    assert {"feedback 0", "training 0", "after 0"} <= set(seen), f"the kills did not fall into the run: {seen}"
    assert train(tmp_path / "killed").wait() == 0
    whole, killed = (fingerprint(tmp_path / name / "model") for name in ("whole", "killed"))
    assert whole == killed
    histories = [(tmp_path / name / "iteration-1" / "metrics.jsonl").read_text("utf-8") for name in ("whole", "killed")]
    assert histories[0] == histories[1]
