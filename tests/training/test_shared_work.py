"""With ``--processes 2``, scoring, mining and the evaluation are split, too: the results are those of one process."""

import os
import shutil
import signal
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import Udr
from udr.data import open_collection
from udr.models import RunnerOptions
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackRun, Progress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def command(tasks: Path, lm_folder: Path, encoder_folder: Path) -> list[object]:
    sizes = "--queries 10 --candidates 6 --iterations 2 --epochs 1 --batch-size 4 --set train.list_length=4"
    return ["train", tasks, "--lm", lm_folder, "--model", encoder_folder, *sizes.split(), "--out"]


def scores(run: Path) -> list[tuple[object, ...]]:
    """The scores of a run, bit for bit."""
    with sqlite3.connect(run / "feedback.sqlite") as file:
        select = "SELECT d.digest, q.digest, log_likelihoods FROM score JOIN text d ON d.id = demonstration "
        return file.execute(f"{select} JOIN text q ON q.id = query ORDER BY 1, 2").fetchall()


def answers(run: Path) -> dict[str, bytes]:
    """The answers with the demonstrations of retrievers that are not trained."""
    files = (run / "report" / "predictions").rglob("*.jsonl")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files if "-run-" not in path.name}


@pytest.fixture
def one(udr: Udr, command: list[object], tmp_path: Path) -> Path:
    """The run of one process."""
    assert udr(*command, tmp_path / "run")[0] == 0
    return (tmp_path / "run").rename(tmp_path / "one")


def workers() -> list[int]:
    """The numbers of this process's workers."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "process_pool"], capture_output=True, text=True)
    return list(map(int, found.stdout.split()))


def test_two_processes_score_mine_and_answer_as_one(
    udr: Udr, command: list[object], one: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    # The second iteration mines by the same model.
    shutil.copytree(one, run)
    for name in ("iteration-1", "model", "report"):
        shutil.rmtree(run / name)
    (run / "manifest.json").unlink()
    caplog.clear()
    assert udr(*command, run, "--processes", 2)[0] == 0
    # For the candidates and the answers; the scores are there.
    assert caplog.text.count("starting 2 processes with 1 threads each") == 2
    mined = Path("iteration-1", "candidates.json")
    assert (run / mined).read_bytes() == (one / mined).read_bytes()
    assert scores(run) == scores(one)
    assert answers(run) == answers(one) and len(answers(one)) == 9


def test_killed_processes_cost_no_score(
    tasks: Path, run_config: RunConfig, trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(run_config, feedback=replace(run_config.feedback, pack_tokens=256))
    killed = list[int]()

    def on_progress(task: str, progress: Progress) -> None:
        for process in () if killed else workers():
            os.kill(process, signal.SIGKILL)
            killed.append(progress.done)

    runner = RunnerOptions(workers=2)
    FeedbackRun(tmp_path, open_collection(tasks), config, on_progress=on_progress, runner=runner).finish()
    assert len(killed) == 2 and "died: it was ended by SIGKILL" in caplog.text
    assert not workers()
    with sqlite3.connect(tmp_path / "feedback.sqlite") as file:
        pairs = file.execute("SELECT sum(pairs) FROM work").fetchone()[0]
    found, expected = scores(tmp_path), {row[:2] for row in scores(trained_run)}
    assert pairs == len(found) == 180 and {row[:2] for row in found} <= expected
