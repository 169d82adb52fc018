"""``udr evaluate``: what it writes where, and invalid arguments are one line on stderr."""

import json
from pathlib import Path

import pytest

from tests.training.conftest import Udr, assert_refused


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--retrievers", "random", "--tasks", "nope"], 1, "unknown task 'nope'"),
        (["--retrievers", "random,./nowhere"], 1, "model './nowhere': no such file or folder"),
        (["--retrievers", ""], 2, "--retrievers: there are no retrievers; name random"),
        (["--retrievers", "random", "--lm", "./nowhere"], 1, "model './nowhere'"),
        (["--retrievers", "random,bm25", "--baseline", "bm52"], 2, "'bm52' is not one of the retrievers"),
        (["--retrievers", "random", "--shots", "4,x"], 2, "--shots must be whole numbers separated by commas"),
        (["--retrievers", "random", "--shots", "-1"], 2, "shots must be different numbers"),
        (["--retrievers", "oracle", "--shots", "13"], 2, "the best of 12 candidates, but 13 shots"),
        (["--retrievers", "random", "--output", "TASKS"], 2, "contains something other than an evaluation"),
    ],
)
def test_invalid_arguments_are_rejected(
    udr: Udr, tasks: Path, lm_folder: Path, arguments: list[str], status: int, message: str
) -> None:
    arguments = [str(tasks) if argument == "TASKS" else argument for argument in arguments]
    assert_refused(udr("evaluate", tasks, "--lm", lm_folder, *arguments), status, message)


def test_json_is_on_stdout_and_the_next_call_reuses_the_answers(
    udr: Udr, tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: list[object] = ["evaluate", tasks, "--lm", lm_folder, "--shots", "0,2", "--output", tmp_path]
    command += ["--retrievers", f"random,bm25,{encoder_folder},oracle", "--limit", 2, "--oracle-candidates", 3]
    status, out, err = udr(*command, "--json")
    answer = json.loads(out)
    assert status == 0
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == answer
    assert (tmp_path / "report.html").is_file() and (tmp_path / "report.md").is_file()
    assert "gain over bm25" in err and f"the report is {tmp_path}/report.html" in err
    assert [(mean["label"], mean["shots"]) for mean in answer["means"]] == [
        (label, shots) for shots in (0, 2) for label in ("random", "bm25", "encoder", "oracle")
    ]

    # The language model answers nothing again.
    from udr_training.feedback.local import CausalLM

    for method in ("likelihoods", "generate", "score"):
        monkeypatch.setattr(CausalLM, method, None)
    status, out, _ = udr(*command)
    assert status == 0 and out.startswith("no demonstration:\ntask") and "\n\n2 demonstrations:\ntask" in out
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == answer


def test_nothing_is_written_without_an_output(
    udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", tasks, "--lm", lm_folder, "--retrievers", "random,oracle", "--shots", 1, "--limit", 2]
    status, out, _ = udr(*command, "--baseline", "random", "--oracle-candidates", 2)
    lines = out.splitlines()
    assert status == 0 and lines[0].split() == ["task", "random", "oracle"]
    assert lines[-3].startswith("gain over random") and list(tmp_path.iterdir()) == []
    assert lines[-1].startswith("With random: ")
