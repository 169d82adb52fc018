"""``udr feedback score | export | stats``: what is exported is what the model says, and nothing is scored twice."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from udr.cli import main
from udr.data import Pool, formatting
from udr_training.feedback.local import CausalLM

Pairs = list[dict[str, Any]]


def score(tasks: Path, lm_folder: Path, run: Path, *arguments: str) -> int:
    sizes = ["--queries", "4", "--candidates", "5"]
    return main(["feedback", "score", str(tasks), "--lm", str(lm_folder), *sizes, "--out", str(run), *arguments])


def export(run: Path, capsys: pytest.CaptureFixture[str]) -> Pairs:
    capsys.readouterr()
    assert main(["feedback", "export", str(run)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def stats(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["feedback", "stats", str(run), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.fixture(scope="module")
def scored(tasks: Path, lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert score(tasks, lm_folder, run) == 0
    return run


def test_every_pair_is_exported_with_what_the_model_read_and_said(
    scored: Path, pools: dict[str, Pool], lm: CausalLM, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = export(scored, capsys)
    assert [pair["task"] for pair in pairs] == [name for name in ("colours", "reverse", "reviews") for _ in range(20)]
    for pair in pairs:
        pool = pools[pair["task"]]
        rows = {row.id: row for row in pool.rows}
        query, demonstration = rows[pair["query_id"]], rows[pair["demonstration_id"]]
        shown = [formatting.demonstration_text(pool.task, demonstration)]
        query_prompt = formatting.query_prompt(pool.task, query.input, query.choices)
        assert pair["prompt"] == formatting.prompt(pool.task.instruction, shown, query_prompt)
        assert pair["options"] == list(formatting.options(pool.task, query))
        assert pair["prompt_tokens"] == list(lm.tokens(pair["prompt"], start=True))
        for option, said in zip(pair["options"], pair["log_likelihoods"], strict=True):
            tokens = lm.tokens(option)
            with torch.inference_mode():
                logits = lm.model(input_ids=torch.tensor([[*pair["prompt_tokens"], *tokens]])).logits[0].double()
            logs = torch.log_softmax(logits[-1 - len(tokens) : -1], dim=-1)
            assert said == pytest.approx(float(logs[range(len(tokens)), tokens].sum()), abs=1e-4)


def test_a_classification_score_is_the_golds_share_of_the_exported_likelihoods(
    scored: Path, pools: dict[str, Pool], capsys: pytest.CaptureFixture[str]
) -> None:
    pool = pools["reviews"]
    golds = {row.id: pool.task.labels.index(row.target) for row in pool.rows}
    pairs = [pair for pair in export(scored, capsys) if pair["task"] == "reviews"]
    for pair in pairs:
        shares = torch.softmax(torch.tensor(pair["log_likelihoods"], dtype=torch.float64), dim=0)
        assert pair["score"] == pytest.approx(float(shares[golds[pair["query_id"]]]), abs=1e-6)
    assert len(pairs) == 20


def test_a_run_goes_on_where_it_was_and_scores_nothing_twice(
    scored: Path, tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = stats(scored, capsys)
    assert whole["pairs"] == whole["scored"] == 60 and whole["bytes"] > 0 and whole["seconds"] > 0
    assert whole["pairs_per_second"] == pytest.approx(60 / whole["seconds"], rel=0.1)
    (tmp_path / "run").mkdir()
    for _ in range(2):
        assert score(tasks, lm_folder, tmp_path / "run") == 0
        assert stats(tmp_path / "run", capsys)["scored"] == 60
    assert export(tmp_path / "run", capsys) == export(scored, capsys)


def test_runs_may_share_a_file_of_scores(
    scored: Path, tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ("--feedback", str(tmp_path / "shared.sqlite"))
    assert score(tasks, lm_folder, tmp_path / "one", *shared) == 0
    assert score(tasks, lm_folder, tmp_path / "other", *shared, "--tasks", "reviews") == 0
    assert stats(tmp_path / "other", capsys)["scored"] == 60
    assert len(export(tmp_path / "other", capsys)) == 20
    (tmp_path / "shared.sqlite").unlink()
    assert main(["feedback", "export", str(tmp_path / "other")]) == 1
    assert "its scores were in" in capsys.readouterr().err


def test_a_run_can_be_moved_and_keeps_its_scores(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scored, tmp_path / "moved")
    shutil.copytree(scored, tmp_path / "other")
    (tmp_path / "other" / "feedback.sqlite").unlink()
    assert stats(tmp_path / "moved", capsys)["pairs"] == 60
    assert export(tmp_path / "moved", capsys) == export(scored, capsys)
    assert main(["feedback", "stats", str(tmp_path / "other")]) == 1
    assert "which no longer exists" in capsys.readouterr().err


def test_a_run_that_keeps_its_scores_elsewhere_remembers_where(
    tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = str(tmp_path / "shared.sqlite")
    assert score(tasks, lm_folder, tmp_path / "run", "--feedback", shared) == 0
    assert score(tasks, lm_folder, tmp_path / "run") == 0
    assert not (tmp_path / "run" / "feedback.sqlite").exists()
    assert stats(tmp_path / "run", capsys)["scored"] == 60
    assert score(tasks, lm_folder, tmp_path / "run", "--feedback", str(tmp_path / "other.sqlite")) == 2
    assert "keeps its scores in" in capsys.readouterr().err


def test_the_order_of_tasks_and_the_size_of_packs_make_no_other_run(
    tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(tasks, lm_folder, tmp_path / "run", "--tasks", "reviews,colours") == 0
    assert score(tasks, lm_folder, tmp_path / "run", "--tasks", "colours,reviews", "--pack-tokens", "99") == 0
    assert stats(tmp_path / "run", capsys)["scored"] == 40


def test_a_run_that_is_not_finished_says_so_when_it_is_exported(
    tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert score(tasks, lm_folder, tmp_path / "run", "--tasks", "reviews") == 0
    with sqlite3.connect(tmp_path / "run" / "feedback.sqlite") as connection:
        connection.execute("DELETE FROM score WHERE query = (SELECT min(query) FROM score)")
    connection.close()
    left = len(export(tmp_path / "run", capsys))
    assert left < 20 and f"{20 - left} pairs are not scored yet" in caplog.text


def test_a_language_model_that_changed_since_is_told(
    tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(lm_folder, tmp_path / "lm")
    assert score(tasks, tmp_path / "lm", tmp_path / "run", "--tasks", "reviews") == 0
    path = tmp_path / "lm" / "tokenizer.json"
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    assert main(["feedback", "export", str(tmp_path / "run")]) == 1
    assert "has changed since the scoring" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.toml", "sources.json", "places.json"])
def test_a_damaged_run_is_refused_by_the_name_of_the_file(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(scored, tmp_path / "run")
    (tmp_path / "run" / name).write_text("{", "utf-8")
    assert main(["feedback", "export", str(tmp_path / "run")]) == 1
    assert f"{name} is none of a run" in capsys.readouterr().err


def test_a_training_runs_feedback_can_be_exported(
    tasks: Path, lm_folder: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--lm", str(lm_folder), "--model", str(encoder_folder)]
    sizes = ["--queries", "8", "--epochs", "1", "--batch-size", "8"]
    assert main(["train", str(tasks), "--tasks", "reviews", *models, *sizes, "--out", str(tmp_path / "run")]) == 0
    pairs = export(tmp_path / "run", capsys)
    asked = {(pair["query_id"], pair["demonstration_id"]) for pair in pairs}
    proposed = [json.loads((tmp_path / "run" / f"iteration-{n}" / "candidates.json").read_text()) for n in (0, 1)]
    assert asked == {(q, d) for part in proposed for q, ids in part["reviews"].items() for d in ids}
    assert len(asked) == len(pairs) > 8 * 12


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--tasks", "nope"], 1, "unknown task 'nope'; the tasks are colours, reverse, reviews"),
        (["--dtype", "float8"], 2, "feedback.dtype must be one of float32, bfloat16, float16, found 'float8'"),
        (["--candidates", "0"], 2, "candidates.num_candidates must be at least 1, found 0"),
        (["--lm", "./nowhere"], 1, "model './nowhere': no such file or folder"),
        (["--device", "nowhere"], 2, "device 'nowhere' cannot be used"),
        (["--pack-tokens", "-1"], 2, "feedback.pack_tokens must be at least 0, found -1"),
        (["--lm", "http://127.0.0.1:9/v1?model=x"], 1, "127.0.0.1:9"),
    ],
)
def test_score_refuses_what_makes_no_sense(
    tasks: Path,
    lm_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    assert score(tasks, lm_folder, tmp_path / "run", *arguments) == status
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("udr: error: ") and message in last and "Traceback" not in captured.err
    assert captured.out == "" and not (tmp_path / "run").exists()


def test_a_run_of_other_sizes_or_rows_is_not_mixed_in(
    scored: Path, tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(tasks, lm_folder, scored, "--seed", "5") == 2
    assert "holds a run with another configuration (seed = 0 here, seed = 5 requested)" in capsys.readouterr().err
    shutil.copytree(tasks, tmp_path / "tasks")
    path = tmp_path / "tasks" / "opinion" / "reviews" / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("train 3", "train three"), "utf-8")
    assert score(tmp_path / "tasks", lm_folder, scored) == 2
    assert "started from other pools" in capsys.readouterr().err


def test_rows_that_changed_since_are_not_exported(
    tasks: Path, lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    assert score(tmp_path / "tasks", lm_folder, tmp_path / "run", "--tasks", "reviews") == 0
    path = tmp_path / "tasks" / "opinion" / "reviews" / "train.jsonl"
    path.write_text(path.read_text("utf-8").replace("train 3", "train three"), "utf-8")
    assert main(["feedback", "export", str(tmp_path / "run")]) == 1
    assert "the rows of reviews" in capsys.readouterr().err


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("export", "stats"):
        assert main(["feedback", command, str(tmp_path)]) == 1
        assert "holds no run" in capsys.readouterr().err
