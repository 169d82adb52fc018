"""``udr train``: invalid arguments are one line on stderr and leave nothing behind; a run ends with a report."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.conftest import Udr, assert_refused
from udr.models import hub


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--tasks", "nope"], 1, "unknown task 'nope'; the tasks are colours, reverse, reviews"),
        (["--preset", "huge"], 2, "preset must be one of cpu, for two cores"),
        (["--epochs", "0"], 2, "--epochs (train.epochs) must be at least 1, found 0"),
        (["--candidates", "3"], 2, "--set train.list_length must not exceed --candidates"),
        (["--lm", "./nowhere"], 1, "model './nowhere': no such file or folder"),
        (["--pool", "5"], 2, "has 5 rows, 4 without a query and its copies; a step needs 6 candidates"),
        (["--tasks", ","], 2, "found ','"),
        (["--device", "nowhere"], 2, "device 'nowhere' cannot be used"),
        (["--model", "./pyproject.toml"], 1, "is not an encoder"),
        (["--extrapolate", "reward", "--set", "reward.model=./nowhere"], 1, "model: model './nowhere': no such file"),
        (["--set", "train.optimizer=nope", "--dry-run"], 2, "found 'nope'"),
    ],
)
def test_invalid_arguments_are_refused(
    udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    result = udr("train", tasks, "--out", tmp_path / "run", "--lm", lm_folder, *arguments)
    assert_refused(result, status, message)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of a complete run, except for its evaluation."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_run_ends_with_a_table_and_a_report(udr: Udr, tasks: Path, run: Path, encoder_folder: Path) -> None:
    command = ["train", tasks, "--config", run / "config.toml", "--out", run, "--test-rows", 3]
    status, out, err = udr(*command)
    report = json.loads((run / "report" / "report.json").read_text("utf-8"))
    means = {mean["label"]: mean["mean"] for mean in report["means"]}

    assert (status, out) == (0, f"{run / 'model'}\n")
    assert list(means) == ["random", "bm25", encoder_folder.name, "run"]
    best = max(list(means)[:3], key=lambda label: means[label])
    assert f"gain over {best}" in err and "udr: the report is" in err
    assert {row["rows"] for row in report["tasks"]} == {3}
    assert (run / "report" / "report.html").exists()
    card = (run / "model" / "README.md").read_text("utf-8")
    for part in (f"`{encoder_folder}`", "| reviews | not stated |", f"gain over {best}", "Choose the colour."):
        assert part in card
    assert hub.fingerprint(run / "model") == json.loads((run / "manifest.json").read_text())["model_fingerprint"]

    assert "udr: the evaluation uses not all test rows (3 of 4 of colours, 3 of 4 of reverse" in err
    assert "); --test-rows 4 uses all\n" in err
    # Indexes are compared by the same language model and tasks.
    compare = re.search(r"\nAn index of tasks with labels may .* with each encoder, then: udr (.*)", err)
    assert compare is not None
    words = shlex.split(compare[1])
    lm = json.loads((run / "places.json").read_text("utf-8"))["lm"]
    assert words[:4] == ["evaluate", str(tasks), "--tasks", "colours,reverse,reviews"]
    assert words[words.index("--retrievers") + 1] == "INDEX,NEW-INDEX" and words[words.index("--lm") + 1] == lm
    # A second call keeps the predictions.
    before = {path: path.stat().st_mtime_ns for path in (run / "report" / "predictions").rglob("*.jsonl")}
    assert udr(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # The command below the verdict leaves out no row, and no option on which answers depend.
    again = re.search(r"3 test rows are left out; to use them: udr (.*)", err)
    assert again is not None
    status, out, _ = udr(*shlex.split(again[1]), "--json")
    report = json.loads(out)
    assert status == 0 and {row["rows"] for row in report["tasks"]} == {4}
    was = json.loads((run / "report" / "report.json").read_text("utf-8"))
    for fact in ("lm", "lm_dtype", "pool", "seed", "shots", "retrievers", "task_folder"):
        assert report["config"][fact] == was["config"][fact]
    # So does the training with more test rows.
    assert udr(*command[:-1], 4)[0] == 0
    assert json.loads((run / "report" / "report.json").read_text("utf-8"))["means"] == report["means"]


def test_run_without_test_rows_is_not_evaluated(
    udr: Udr, tasks: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    for path in copied.rglob("test.jsonl"):
        path.unlink()
    options = ["--config", run / "config.toml", "--out", run]
    for command in (["train", tasks, *options, "--test-rows", 0], ["train", copied, *options]):
        assert udr(*command)[:2] == (0, f"{run / 'model'}\n")
    assert "the run is not evaluated: no task has test rows" in caplog.text
    assert not (run / "report").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word " * 7000, "task 'reviews', row 'long': the input has at least 35000 characters; the limit is 32768"),
        ("word " * 2000, "row 'long': the prompt needs .* but the language model's window is"),
    ],
)
def test_a_test_row_that_is_too_long_is_told_before_the_training(
    udr: Udr, tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    copied = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    with (copied / "opinion" / "reviews" / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "long", "input": {"text": text}, "target": "good"}) + "\n")
    result = udr("train", copied, "--lm", lm_folder, "--model", encoder_folder, "--out", tmp_path / "run")
    assert result[0] and not (tmp_path / "run").exists()
    assert re.search(f"{message}.*; shorten the row or remove it", result[2])


FIRST_LINE = """
import sys
from udr.cli import STATUS, main

class BegunError(BaseException):
    pass

def begin(text):
    assert text == "loading the libraries..." and not {"torch", "transformers"} & set(sys.modules), text
    raise BegunError

STATUS.begin = begin
for line in sys.argv[1:]:
    try:
        main(line.split())
    except BegunError:
        print(line.split()[0])
"""


def test_commands_say_that_they_load_libraries_before_they_do(tasks: Path, lm_folder: Path, run: Path) -> None:
    commands = [
        f"train {tasks} --dry-run --config {run}/config.toml --out {run}",
        f"evaluate {tasks} --lm {lm_folder} --retrievers bm25 --shots 2",
        f"feedback score {tasks} --lm {lm_folder} --out {run}-2",
        f"feedback export {run}",
        f"feedback weigh {run} {run}-index",
    ]
    done = subprocess.run([sys.executable, "-c", FIRST_LINE, *commands], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [command.split()[0] for command in commands], done.stderr
