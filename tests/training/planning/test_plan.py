"""``udr train --dry-run``: what it counts is what the run then does, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from udr.cli import main
from udr_training.feedback import FeedbackStore


@pytest.fixture
def arguments(tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path) -> list[str]:
    cut = ["--queries", "10", "--candidates", "6", "--set", "train.list_length=4", "--batch-size", "3", "--epochs", "2"]
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder), "--random-share", "0.5"]
    return ["train", str(tasks), "--tasks", "reviews,reverse", "--out", str(tmp_path / "run"), *cut, *models]


def planned(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*arguments, "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_plan_counts_what_the_run_then_does(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(arguments, capsys)
    assert not (tmp_path / "run").exists()
    # Two tasks, 10 queries, one of them watched; three steps a task and visit.
    assert (plan["iterations"], plan["steps"]) == (2, 12)
    assert [(task["pairs"], task["stored"], task["later_pairs"]) for task in plan["tasks"]] == [(60, 0, 30)] * 2
    assert all(task["pairs_per_second"] > 0 for task in plan["tasks"])
    assert min(plan[name] for name in ("seconds_per_step", "feedback_seconds", "training_seconds", "disk_bytes")) > 0
    assert main(arguments) == 0
    lines = (tmp_path / "run" / "iteration-0" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["step"] == 12
    assert main(["feedback", "stats", str(tmp_path / "run"), "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out.splitlines()[-1])["pairs"]
    assert 120 < pairs <= 180
    assert main([*arguments, "--dry-run", "--seed", "3"]) == 2
    assert "holds a run with another configuration (seed = 0 here, seed = 3 requested)" in capsys.readouterr().err
    assert [task["stored"] for task in planned(arguments, capsys)["tasks"]] == [60, 60]


def test_a_plan_reads_as_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reviews: 10 queries, 6 candidates each from 24 rows; 60 pairs (0 already scored), then")
    assert [line.split(":")[0] for line in lines[2:]] == ["feedback", "training", "disk", "evaluation"]


def test_a_plan_changes_nothing_in_a_file_of_scores(arguments: list[str], tmp_path: Path) -> None:
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other.sqlite"
    empty.touch()
    FeedbackStore(other, "another lm", "float32", "wording").close()
    before = other.read_bytes()
    for path in (empty, other):
        assert main([*arguments, "--dry-run", "--feedback", str(path)]) == 0
    assert empty.read_bytes() == b"" and other.read_bytes() == before


def test_a_plan_of_what_cannot_be_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--dry-run", "--set", "train.loss=hinge"]) == 2
    assert "train.loss must be one of udr, lambda, epr, kl, found 'hinge'" in capsys.readouterr().err
    assert main([*arguments, "--dry-run", "--set", "train.optimizer=nope"]) == 2
    assert "train.optimizer must be one of" in capsys.readouterr().err
