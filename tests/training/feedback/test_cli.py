"""``udr feedback score | export | stats``: the export holds the model's own numbers, and nothing is scored twice."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Udr, assert_refused, changed_copy
from udr.data import Pool, formatting, open_collection
from udr_training.config import CandidateConfig, FeedbackConfig, ScoringConfig
from udr_training.feedback import FeedbackRun
from udr_training.feedback.local import CausalLM

SIZES = ["--queries", 4, "--candidates", 5, "--out"]


def export(udr: Udr, run: Path) -> list[dict[str, Any]]:
    status, out, _ = udr("feedback", "export", run)
    assert status == 0
    return [json.loads(line) for line in out.splitlines()]


def stats(udr: Udr, run: Path) -> dict[str, Any]:
    return dict(json.loads(udr("feedback", "stats", run, "--json")[1]))


def error_of(udr: Udr, command: str, run: Path) -> str:
    status, _, err = udr("feedback", command, run)
    assert status == 1
    return err


@pytest.fixture(scope="module")
def scored(tasks: Path, lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``udr feedback score`` with ``SIZES``."""
    run, collection = tmp_path_factory.mktemp("runs") / "run", open_collection(tasks)
    candidates, feedback = CandidateConfig(queries=4, num_candidates=5), FeedbackConfig(lm=str(lm_folder))
    config = ScoringConfig(tasks=tuple(collection.tasks), candidates=candidates, feedback=feedback)
    FeedbackRun(run, collection, config).finish()
    return run


@pytest.fixture
def copied(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "copied"))


def test_export_holds_what_the_model_read_and_its_likelihoods(
    udr: Udr, scored: Path, pools: dict[str, Pool], lm: CausalLM
) -> None:
    pairs = export(udr, scored)
    assert [pair["task"] for pair in pairs] == [name for name in ("colours", "reverse", "reviews") for _ in range(20)]
    for pair in pairs:
        task, rows = pools[pair["task"]].task, {row.id: row for row in pools[pair["task"]].rows}
        query, demonstration = rows[pair["query_id"]], rows[pair["demonstration_id"]]
        shown = [formatting.demonstration_text(task, demonstration)]
        query_prompt = formatting.query_prompt(task, query.input, query.choices)
        assert pair["prompt"] == formatting.prompt(task.instruction, shown, query_prompt)
        assert pair["options"] == list(formatting.options(task, query))
        assert pair["prompt_tokens"] == list(lm.tokens(pair["prompt"], start=True))
        for option, likelihood in zip(pair["options"], pair["log_likelihoods"], strict=True):
            tokens = lm.tokens(option)
            with torch.inference_mode():
                logits = lm.model(input_ids=torch.tensor([[*pair["prompt_tokens"], *tokens]])).logits[0].double()
            logs = torch.log_softmax(logits[-1 - len(tokens) : -1], dim=-1)
            assert likelihood == pytest.approx(float(logs[range(len(tokens)), tokens].sum()), abs=1e-4)
        if pair["task"] == "reviews":
            shares = torch.softmax(torch.tensor(pair["log_likelihoods"], dtype=torch.float64), dim=0)
            assert pair["score"] == pytest.approx(float(shares[task.labels.index(query.target)]), abs=1e-6)


def test_resumed_run_scores_nothing_twice(udr: Udr, scored: Path, copied: Path, tasks: Path, lm_folder: Path) -> None:
    costs = stats(udr, scored)
    assert costs["pairs"] == costs["scored"] == 60 and costs["bytes"] > 0 and costs["seconds"] > 0
    assert costs["pairs_per_second"] == pytest.approx(60 / costs["seconds"], rel=0.1)
    # Neither the order of tasks nor the size of packs makes another run.
    options = ["--tasks", "reviews,reverse,colours", "--pack-tokens", 99]
    assert udr("feedback", "score", tasks, "--lm", lm_folder, *SIZES, copied, *options)[:2] == (0, f"{copied}\n")
    assert stats(udr, copied)["scored"] == 60
    assert export(udr, copied) == export(udr, scored)


def test_runs_share_a_file_of_scores_and_remember_it(
    udr: Udr, scored: Path, tasks: Path, lm_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared, run = Path(shutil.copy(scored / "feedback.sqlite", tmp_path / "shared.sqlite")), tmp_path / "run"
    command = ["feedback", "score", tasks, "--lm", lm_folder, *SIZES, run, "--tasks", "reviews"]
    for feedback in (["--feedback", shared], []):
        assert udr(*command, *feedback)[0] == 0
    assert not (run / "feedback.sqlite").exists()
    assert stats(udr, run)["scored"] == 60 and len(export(udr, run)) == 20
    loading = f"loading {lm_folder}..."
    assert loading not in caplog.messages, "all scores are there"
    assert udr(*command[:-3], tmp_path / "new", "--tasks", "reviews", "--context", 1)[0] == 0
    assert loading in caplog.messages, "other prompts have to be scored"
    status, _, err = udr(*command, "--feedback", tmp_path / "other.sqlite")
    assert status == 2 and "keeps its scores in" in err
    shared.unlink()
    for name in ("export", "stats"):
        assert "its scores were in" in error_of(udr, name, run)


def test_a_directory_with_results_of_no_run_is_not_taken_for_one(
    udr: Udr, scored: Path, copied: Path, tasks: Path, lm_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    for name in (".gitignore", "train.log", "lost+found"):
        (tmp_path / "own" / name).touch()
    shutil.copy(scored / "feedback.sqlite", tmp_path / "own")
    command = ["feedback", "score", tasks, "--lm", lm_folder, *SIZES]
    assert udr(*command, tmp_path / "own")[0] == 0
    assert stats(udr, tmp_path / "own")["scored"] == 60, "the scores are taken"
    # A model that another program wrote would be published as the trained one.
    (tmp_path / "other" / "model").mkdir(parents=True)
    refused = f"{tmp_path / 'other'} holds no run, since config.toml is missing, but holds model, which"
    for command_of in (command, ["train", tasks, "--lm", lm_folder, "--out"], ["train", tasks, "--dry-run", "--out"]):
        assert_refused(udr(*command_of, tmp_path / "other"), 2, refused)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["model"]
    # So would the results of a run whose configuration is lost.
    (copied / "config.toml").unlink()
    assert_refused(udr(*command, copied), 2, "but holds iteration-0, places.json, which a run would take for its own")


def test_export_refuses_changed_rows_and_a_changed_model(
    udr: Udr, tasks: Path, lm_folder: Path, tmp_path: Path
) -> None:
    copy, lm, run = tmp_path / "tasks", tmp_path / "lm", tmp_path / "run"
    shutil.copytree(tasks, copy)
    shutil.copytree(lm_folder, lm)
    assert udr("feedback", "score", copy, "--lm", lm, *SIZES, run, "--tasks", "reviews")[0] == 0
    changed_copy(tasks, copy, "train 3", "train three")
    assert "the rows of reviews" in error_of(udr, "export", run)
    shutil.copytree(tasks, copy, dirs_exist_ok=True)
    with (lm / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert "has changed since the scoring" in error_of(udr, "export", run)


def test_export_of_an_incomplete_run_warns(udr: Udr, copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(copied / "feedback.sqlite") as connection:
        connection.execute("DELETE FROM score WHERE query = (SELECT min(query) FROM score)")
    connection.close()
    num_left = len(export(udr, copied))
    assert num_left < 60 and f"{60 - num_left} pairs are not scored yet" in caplog.text


@pytest.mark.parametrize("name", ["config.toml", "sources.json", "places.json"])
def test_damaged_or_missing_file_is_named(udr: Udr, copied: Path, name: str) -> None:
    (copied / name).write_text("{", "utf-8")
    assert f"{name} is invalid" in error_of(udr, "export", copied)
    (copied / name).unlink()
    assert f"holds no run; {name} is missing" in error_of(udr, "export", copied)


def test_training_runs_feedback_is_exported(udr: Udr, trained_run: Path) -> None:
    pairs = export(udr, trained_run)
    paths = [trained_run / f"iteration-{number}" / "candidates.json" for number in (0, 1)]
    proposed = [json.loads(path.read_text("utf-8")) for path in paths]
    expected = {(q, d) for tasks in proposed for part in tasks.values() for q, ids in part.items() for d in ids}
    assert {(pair["query_id"], pair["demonstration_id"]) for pair in pairs} == expected
    assert len(expected) == len(pairs) > 3 * 10 * 6


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--tasks", "nope"], 1, "unknown task 'nope'; the tasks are colours, reverse, reviews"),
        (
            ["--dtype", "float8"],
            2,
            "--dtype (feedback.dtype) must be one of float32, bfloat16, float16, found 'float8'",
        ),
        (["--candidates", "0"], 2, "--candidates (candidates.num_candidates) must be at least 1, found 0"),
        (["--lm", "./nowhere"], 1, "model './nowhere': no such file or folder"),
        (["--device", "nowhere"], 2, "device 'nowhere' cannot be used"),
        (["--lm", "http://127.0.0.1:9/v1?model=x&characters=0"], 2, "characters= must be a number above 0"),
    ],
)
def test_invalid_arguments_are_refused(
    udr: Udr, tasks: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    assert_refused(udr("feedback", "score", tasks, *SIZES, tmp_path / "run", *arguments), status, message)
    assert not (tmp_path / "run").exists()
