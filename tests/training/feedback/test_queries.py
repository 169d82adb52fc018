"""Queries of a task: no copies of one another, so that what is held out is not learned under another id."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from udr.data import TaskFolder, copy_text, open_collection
from udr.types import Row
from udr_training.config import CandidateConfig, RunConfig
from udr_training.feedback import FeedbackRun, TrainingTask

COPIES = 10


@pytest.fixture
def copied(tasks: Path, tmp_path: Path) -> Path:
    """Tasks whose pool of reviews has copies of ten of its 24 rows, in other letters and with other ids."""
    folder = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    (file,) = folder.glob("*/reviews/train.jsonl")
    lines = file.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:COPIES]]
    copies = [
        {**row, "id": f"copy-{number}", "input": {key: f"{text.upper()} !" for key, text in row["input"].items()}}
        for number, row in enumerate(rows)
    ]
    file.write_text("\n".join([*lines, *map(json.dumps, copies), ""]), "utf-8")
    return folder


@pytest.fixture
def folder(copied: Path) -> TaskFolder:
    return open_collection(copied).tasks["reviews"]


def sampled(folder: TaskFolder, queries: int, seed: int = 0) -> TrainingTask:
    return TrainingTask.sample(folder, RunConfig(seed=seed, candidates=CandidateConfig(queries=queries)))


def texts(folder: TaskFolder, rows: tuple[Row, ...]) -> list[str]:
    return [copy_text(folder.task, row) for row in rows]


@pytest.mark.parametrize("seed", range(5))
def test_no_held_out_query_is_a_copy_of_a_learned_one(folder: TaskFolder, seed: int) -> None:
    task = sampled(folder, 0, seed)
    assert len(task.pool) == 24 + COPIES
    found = texts(folder, task.queries)
    assert len(found) == len(set(found)) == 24
    assert set(found) == set(texts(folder, task.pool.rows))
    # A smaller sample is a prefix of a larger one.
    assert sampled(folder, 7, seed).queries == task.queries[:7]


@pytest.mark.parametrize("seed", range(5))
def test_new_queries_are_no_copies_of_those_asked_before(folder: TaskFolder, seed: int) -> None:
    task = sampled(folder, 8, seed)
    before = texts(folder, task.queries)
    rest = task.unasked({row.id for row in task.queries})
    after = texts(folder, rest)
    assert len(after) == len(set(after)) == 24 - 8 and not {*before} & {*after}
    assert task.unasked({row.id for row in task.queries}, 5) == rest[:5]
    assert task.unasked({row.id for row in task.queries}, 0) == ()
    assert task.num_unasked({row.id for row in task.queries}) == len(rest)


@pytest.mark.parametrize(("queries", "told"), [(0, "24 queries in place of 34 (29.4% fewer)"), (20, "")])
def test_rows_that_are_no_queries_are_told(
    queries: int, told: str, copied: Path, run_config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(run_config, candidates=replace(run_config.candidates, queries=queries))
    run = FeedbackRun(tmp_path / "run", open_collection(copied, config.tasks), config)
    assert len(run.tasks["reviews"].queries) == (queries or 24)
    expected = f"task reviews: {told}; all others are copies of these"
    assert caplog.messages == ([expected] if told else [])
