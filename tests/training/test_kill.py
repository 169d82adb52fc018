"""``udr feedback score`` killed again and again: nothing is lost, and nothing that was stored is scored twice."""

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

from tests.tiny_models import save_lm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KILLS = 20
SIZES = ["--queries", "60", "--candidates", "16", "--pack-tokens", "64"]

Stored = dict[tuple[bytes, bytes], list[float]]


def start(tasks: Path, lm: Path, run: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "import sys; from udr.cli import main; sys.exit(main())", "feedback", "score"]
    command += [str(tasks), "--lm", str(lm), *SIZES, "--out", str(run)]
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


def test_twenty_kills_lose_nothing_and_compute_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "opinion" / "reviews"
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
