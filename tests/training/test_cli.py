"""``udr train``: every wrong argument is one line on stderr, and nothing is left behind."""

import json
import shutil
from pathlib import Path

import pytest

from udr.cli import main


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--tasks", "nope"], 1, "unknown task 'nope'; the tasks are colours, reverse, reviews"),
        (["--preset", "huge"], 2, "preset must be one of cpu, default, paper; found 'huge'"),
        (["--epochs", "0"], 2, "train.epochs must be at least 1, found 0"),
        (["--candidates", "3"], 2, "train.list_length (6) must not exceed candidates.num_candidates (3)"),
        (["--lm", "./nowhere"], 1, "model './nowhere': no such file or folder"),
        (["--dtype", "float8"], 2, "feedback.dtype must be one of float32, bfloat16, float16, found 'float8'"),
        (["--pool", "5"], 2, "has 5 rows, 4 without a query and its copies; a step needs 6 candidates"),
        (["--tasks", ","], 2, "expected a list of names, separated by commas; found ','"),
        (["--seed", "-1"], 2, "seed must be at least 0, found -1"),
        (["--learning-rate", "0"], 2, "train.learning_rate must be above 0, found 0.0"),
        (["--device", "nowhere"], 2, "device 'nowhere' cannot be used"),
        (["--model", "EXISTS"], 1, "is not an encoder"),
    ],
)
def test_train_refuses_what_makes_no_sense(
    tasks: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    arguments = [str(tasks) if argument == "EXISTS" else argument for argument in arguments]
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder)]
    assert main(["train", str(tasks), "--out", str(tmp_path / "run"), *models, *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("udr: error: ") and message in last and "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_tasks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "contains no task.toml" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tasks_named_in_a_file_are_those_that_are_trained(
    tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('tasks = ["reviews"]\n[train]\niterations = 1\nepochs = 1\nbatch_size = 8\n', "utf-8")
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder)]
    assert main(["train", str(tasks), "--out", str(tmp_path / "run"), "--config", str(file), *models]) == 0
    assert 'tasks = ["reviews"]' in (tmp_path / "run" / "config.toml").read_text("utf-8")


SMALL = ["--tasks", "reviews,reverse", "--queries", "8", "--iterations", "1", "--epochs", "1", "--batch-size", "8"]


def test_a_training_ends_with_a_table_and_a_report(
    tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["train", str(tasks), "--lm", str(lm_folder), "--model", str(encoder_folder), *SMALL, "--out", str(run)]
    assert main([*command, "--test-rows", "3"]) == 0
    captured = capsys.readouterr()
    report = json.loads((run / "report" / "report.json").read_text("utf-8"))
    means = {one["label"]: one["mean"] for one in report["means"]}

    assert captured.out == f"{run / 'model'}\n"
    assert list(means) == ["random", "bm25", encoder_folder.name, "run"]
    untrained = {name: means[name] for name in list(means)[:3]}
    label = next(name for name in untrained if untrained[name] == max(untrained.values()))
    assert f"gain over {label}" in captured.err
    assert {row["rows"] for row in report["tasks"]} == {3}
    assert (run / "report" / "report.html").exists() and "udr: the report is" in captured.err

    # Run again, it trains and asks nothing anew.
    before = {path: path.stat().st_mtime_ns for path in (run / "report" / "predictions").rglob("*.jsonl")}
    assert main([*command, "--test-rows", "3"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_training_without_test_rows_says_that_it_is_not_judged(
    tasks: Path,
    lm_folder: Path,
    encoder_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    for path in copied.rglob("test.jsonl"):
        path.unlink()
    run = tmp_path / "run"
    command = ["train", str(copied), "--lm", str(lm_folder), "--model", str(encoder_folder), *SMALL, "--out", str(run)]

    assert main(command) == 0

    assert "the run is not evaluated: no task has test rows" in caplog.text
    assert capsys.readouterr().out == f"{run / 'model'}\n" and not (run / "report").exists()


def test_a_training_that_is_not_to_be_judged_is_not(
    tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["train", str(tasks), "--lm", str(lm_folder), "--model", str(encoder_folder), *SMALL, "--out", str(run)]
    assert main([*command, "--test-rows", "0"]) == 0
    assert (run / "model").exists() and not (run / "report").exists()
