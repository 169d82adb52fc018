"""Training logs are read as they were written, without what a kill left incomplete."""

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


def write(run: Path, number: int, text: str) -> Path:
    folder = run / f"iteration-{number}"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(text, "utf-8")
    return folder


def test_the_later_of_two_lines_counts_and_an_incomplete_one_does_not(tmp_path: Path) -> None:
    write(tmp_path, 0, "\n".join(LINES) + "\n" + LINES[0][:40])
    assert read_iterations(tmp_path) == (Iteration(0, {10: 2.25}, {20: {"trec": 0.5, "mean": 0.5}}),)


def test_iterations_are_ordered_by_number(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write(tmp_path, number, json.dumps({"step": 1, "loss": float(number)}) + "\n")
    assert [iteration.losses[1] for iteration in read_iterations(tmp_path)] == [0, 2, 10]


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"loss": 1}', '{"step": 1, "loss": "x"}', '{"step": 1, "ndcg": 1}']
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, 3, f"{LINES[0]}\n{line}\n")
    with pytest.raises(ArtifactError, match=r"iteration-3/metrics\.jsonl:2: not a line of training metrics"):
        read_iterations(tmp_path)


def test_each_run_has_one_history_which_says_why_it_is_empty(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("whole", "bare", "broken")]
    for run in runs:
        run.mkdir()
        (run / "config.toml").write_text("", "utf-8")
    iteration = write(runs[0], 0, LINES[0] + "\n") / "model"
    write(runs[2], 0, "nonsense\n")
    whole, bare, broken = histories(short_names(["bm25", str(iteration), *map(str, runs)]))
    assert (whole.run, whole.problem, len(whole.iterations)) == ("whole", "", 1)
    assert (bare.run, bare.problem) == ("bare", "its training wrote no metrics.jsonl")
    assert broken.run == "broken" and "metrics.jsonl:1: not a line of training metrics" in broken.problem
