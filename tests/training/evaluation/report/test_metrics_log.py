"""What training wrote is read as it was written, and what a kill cut short is left out."""

import json
from pathlib import Path

import pytest

from udr.errors import ArtifactError
from udr_training.evaluation import short_names
from udr_training.evaluation.report import Iteration, histories, read_iterations

LINES = (
    '{"step": 10, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-05}',
    '{"step": 20, "epoch": 1.0, "ndcg": {"trec": 0.5, "mean": 0.5}, "mrr": {"trec": 1.0, "mean": 1.0}}',
    '{"step": 20, "loss": NaN}',
    '{"step": 30, "loss": null}',
    '{"step": 10, "loss": 2.25}',
)


def write(run: Path, number: int, text: str) -> None:
    folder = run / f"iteration-{number}"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(text, "utf-8")


def test_losses_and_ndcg_by_step_the_later_line_counts(tmp_path: Path) -> None:
    write(tmp_path, 0, "\n".join(LINES) + "\n")
    assert read_iterations(tmp_path) == (Iteration(0, {10: 2.25}, {20: {"trec": 0.5, "mean": 0.5}}),)


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0, LINES[0] + "\n" + LINES[1][:40])
    assert read_iterations(tmp_path) == (Iteration(0, {10: 2.5}, {}),)


def test_iterations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write(tmp_path, number, json.dumps({"step": 1, "loss": float(number)}) + "\n")
    assert [iteration.losses[1] for iteration in read_iterations(tmp_path)] == [0, 2, 10]


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"loss": 1}', '{"step": 1, "loss": "x"}', '{"step": 1, "ndcg": 1}']
)
def test_a_line_of_something_else_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, 3, f"{LINES[0]}\n{line}\n")
    with pytest.raises(ArtifactError, match=r"iteration-3/metrics\.jsonl:2: not a line of training metrics"):
        read_iterations(tmp_path)


def test_each_run_has_one_history_and_one_without_curves_says_why(tmp_path: Path) -> None:
    for name in ("whole", "bare", "broken"):
        (tmp_path / name / "iteration-0" / "model").mkdir(parents=True)
        (tmp_path / name / "config.toml").write_text("", "utf-8")
    (tmp_path / "whole/iteration-0/metrics.jsonl").write_text(LINES[0] + "\n", "utf-8")
    (tmp_path / "broken/iteration-0/metrics.jsonl").write_text("nonsense\n", "utf-8")
    iteration = str(tmp_path / "whole" / "iteration-0" / "model")
    names = ["bm25", iteration, *(str(tmp_path / name) for name in ("whole", "bare", "broken"))]
    whole, bare, broken = histories(short_names(names))
    assert (whole.run, whole.problem, len(whole.iterations)) == ("whole", "", 1)
    assert (bare.run, bare.problem) == ("bare", "its training wrote no metrics.jsonl")
    assert broken.run == "broken" and "metrics.jsonl:1: not a line of training metrics" in broken.problem
