"""The commands that ask language models, or train: every option arrives as the setting that it names."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.options import Changes, Recorder, assert_each_arrives, flat, parameters
from udr.data import open_collection, sample
from udr_training.config import load_config

SERVER = "http://127.0.0.1:9/v1?model=m"
ASKED = {"config.feedback.lm": SERVER}
RUNNER: Changes = {
    "runner": ("--runner ray", {"runner.runner": "ray"}),
    "workers": ("--workers 3", {"runner.workers": 3}),
    "gpus_per_worker": ("--gpus-per-worker 0.5", {"runner.gpus_per_worker": 0.5}),
    "ray_address": ("--ray-address head:6379", {"runner.ray_address": "head:6379"}),
}
COST: Changes = {
    "max_requests": ("--max-requests 5", {"budget.max_requests": 5}),
    "max_tokens": ("--max-tokens-total 600", {"budget.max_tokens": 600}),
    "prices": ("--prices 1,2", {"budget.prices": (1.0, 2.0)}),
    "max_cost": ("--prices 1,2 --max-cost 0.5", {"budget.prices": (1.0, 2.0), "budget.max_cost": 0.5}),
}
SCORES: Changes = {
    "tasks": ("--tasks reviews", {"config.tasks": ("reviews",)}),
    "seed": ("--seed 7", {"config.seed": 7}),
    "lm": ("--lm ./lm", {"config.feedback.lm": "./lm"}),
    "device": ("--device cuda", {"config.feedback.device": "cuda"}),
    "dtype": ("--dtype bfloat16", {"config.feedback.dtype": "bfloat16"}),
    "context": ("--context 3", {"config.feedback.context": 3}),
    "pool": ("--pool 11", {"config.candidates.pool": 11}),
    "queries": ("--queries 12", {"config.candidates.queries": 12}),
    "candidates": ("--candidates 13", {"config.candidates.num_candidates": 13}),
    "random_share": ("--random-share 0.25", {"config.candidates.random_share": 0.25}),
    "feedback": ("--feedback shared.sqlite", {"feedback": Path("shared.sqlite")}),
}


def at_a_server(also: dict[str, object]) -> Changes:
    """Return the options that only a server has; ``also`` is what a server changes besides."""
    changes: Changes = {
        **COST,
        "kind": ("--kind metric", {"config.feedback.kind": "metric"}),
        "lm_set": ("--lm-set concurrency=3", {"config.feedback.lm_set": ("concurrency=3",)}),
    }
    return {name: (f"--lm {SERVER} {words}", {**ASKED, **also, **own}) for name, (words, own) in changes.items()}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither models nor clusters are looked for."""
    for place in ("udr_training.feedback", "udr_training.feedback.checks"):
        monkeypatch.setattr(f"{place}.check_run", lambda *_: None)
        monkeypatch.setattr(f"{place}.check_runner", lambda *_: None)


def test_options_of_train_arrive(tasks: Path, tmp_path: Path, unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Recorder:
        recorder = Recorder("", "", "config")
        monkeypatch.setattr("udr_training.runs.Run", recorder)
        monkeypatch.setattr("udr_training.cli.before_training.check_test_rows", lambda *_: None)
        monkeypatch.setattr(
            "udr_training.cli.before_training.foretell", lambda *values: recorder.keep(test_rows=values[2])
        )
        return recorder

    (tmp_path / "config.toml").write_text("[train]\npatience = 2\n", "utf-8")
    cpu, paper = ({f"config.{name}": value for name, value in preset(each).items()} for each in ("cpu", "paper"))
    # Without options of a runner, each process has a part of what loads a language model.
    local: dict[str, object] = {"runner.workers": None}
    changes: Changes = {
        **SCORES,
        **at_a_server(local),
        **{name: (words, {**({} if name == "workers" else local), **own}) for name, (words, own) in RUNNER.items()},
        "preset": ("--preset paper", {name: value for name, value in paper.items() if value != cpu[name]}),
        "config": (f"--config {tmp_path / 'config.toml'}", {"config.train.patience": 2}),
        "settings": ("--set train.lora_rank=8", {"config.train.lora_rank": 8}),
        "shared": ("--shared 9", {"config.candidates.shared": 9}),
        "later": ("--later new", {"config.candidates.later": "new"}),
        "model": ("--model ./model", {"config.train.model": "./model"}),
        "iterations": ("--iterations 5", {"config.train.iterations": 5}),
        "epochs": ("--epochs 9", {"config.train.epochs": 9}),
        "batch_size": ("--batch-size 10", {"config.train.batch_size": 10}),
        "learning_rate": ("--learning-rate 0.5", {"config.train.learning_rate": 0.5}),
        "train_dtype": ("--train-dtype bfloat16", {"config.train.dtype": "bfloat16"}),
        "ranking_weight": ("--ranking-weight 0.7", {"config.train.ranking_weight": 0.7}),
        "loss": ("--loss kl", {"config.train.loss": "kl"}),
        "towers": ("--towers 2", {"config.train.towers": 2}),
        "label_aware": ("--label-aware", {"config.train.label_aware": True}),
        "extrapolate": ("--extrapolate labels", {"config.train.extrapolate": "labels"}),
        "centre_scores": ("--centre-scores", {"config.train.centre_scores": True}),
        "test_rows": ("--test-rows 7", {"test_rows": 7}),
        "processes": ("--processes 2", {"processes": 2, "runner.workers": 2}),
    }
    given: tuple[object, ...] = (tasks, "--out", tmp_path / "run")
    assert_each_arrives("train", given, make, changes, {"out", "dry_run", "as_json"})
    # What a file turns on, an option turns off.
    (tmp_path / "config.toml").write_text("[train]\nlabel_aware = true\ncentre_scores = true\n", "utf-8")
    off: Changes = {
        "label_aware": ("--no-label-aware", {"config.train.label_aware": False}),
        "centre_scores": ("--no-centre-scores", {"config.train.centre_scores": False}),
    }
    given = (*given, "--config", tmp_path / "config.toml")
    assert_each_arrives("train", given, make, off, parameters("train") - {*off})


def preset(name: str) -> dict[str, Any]:
    config = flat({"config": load_config(name, {})})
    return {each.removeprefix("config."): value for each, value in config.items() if each != "config.tasks"}


def test_options_of_feedback_score_arrive(
    tasks: Path, tmp_path: Path, unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Recorder:
        recorder = Recorder("", "", "config")
        monkeypatch.setattr("udr_training.feedback.run.FeedbackRun", recorder)
        return recorder

    changes: Changes = {
        **SCORES,
        **at_a_server({}),
        **RUNNER,
        "pack_tokens": ("--pack-tokens 300", {"config.feedback.pack_tokens": 300}),
        "settings": ("--set candidates.shared=9", {"config.candidates.shared": 9}),
    }
    assert_each_arrives("feedback score", (tasks, "--out", tmp_path / "run"), make, changes, {"out"})


@contextmanager
def nothing_paid(*_: object) -> Iterator[None]:
    yield


def asking(recorder: Recorder, *roles: str) -> Callable[..., SimpleNamespace]:
    """Return what stands in for the models of servers, each in its turn, and keeps how it is asked."""
    turns = iter(roles)

    def server(address: str, settings: object, budget: object, _: object) -> SimpleNamespace:
        recorder.keep(**{next(turns): {"lm": address, "asked": settings, "budget": budget}})
        return SimpleNamespace(name=address, spent="nothing")

    return server


def of_servers(*roles: str) -> Changes:
    """Return the options of how servers are asked, each the same for all of them."""
    changes: Changes = {**COST, "lm_set": ("--lm-set concurrency=3", {"asked.concurrency": 3})}
    return {
        name: (words, {f"{role}.{key}": value for key, value in own.items() for role in roles})
        for name, (words, own) in changes.items()
    }


def test_options_of_pool_criteria_arrive(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, mining = (importlib.import_module(f"udr_training.pool.criteria.{name}") for name in ("files", "mining"))

    def make() -> Recorder:
        recorder = Recorder()
        monkeypatch.setattr("udr_training.answering.PaidAnswers", nothing_paid)
        monkeypatch.setattr("udr_training.answering.ServerLM", asking(recorder, "manager", "worker"))
        monkeypatch.setattr(files, "read_pairs", lambda path, rows: recorder.keep(pairs=path, first=rows[0].id))
        monkeypatch.setattr(
            mining, "mine", lambda task, pairs, ask, judge, settings, notice: recorder(settings=settings)
        )
        return recorder

    changes: Changes = {
        **of_servers("manager", "worker"),
        "tasks": ("--tasks reverse", {"first": "reverse-train-00"}),
        "pairs": ("--pairs other.jsonl", {"pairs": Path("other.jsonl")}),
        "lm": (f"--lm {SERVER}2", {"manager.lm": f"{SERVER}2", "worker.lm": f"{SERVER}2"}),
        "worker_lm": (f"--worker-lm {SERVER}3", {"worker.lm": f"{SERVER}3"}),
        "number": ("--criteria 5", {"settings.number": 5}),
        "rounds": ("--rounds 2", {"settings.rounds": 2}),
        "agreement": ("--agreement 0.6", {"settings.keep": 0.6}),
    }
    given = (tasks, "--tasks", "reviews", "--pairs", "pairs.jsonl", "--lm", SERVER, "--out", tmp_path / "criteria.toml")
    assert_each_arrives("pool criteria", given, make, changes, {"out", "as_json"})


def test_options_of_pool_synthesise_arrive(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, solving = (importlib.import_module(f"udr_training.pool.synthesis.{name}") for name in ("search", "solving"))

    def is_worked(_: object, row: Any) -> bool:
        return int(row.id[-2:]) < 8

    def drawn(name: str = "reverse", limit: int | None = None, seed: int = 0, shots: int = 2) -> dict[str, object]:
        rows = open_collection(tasks).tasks[name].rows("train")
        worked, others = ([row for row in rows if is_worked(None, row) is which] for which in (True, False))
        examples = sample(worked, shots, seed)
        return {"questions": [row.id for row in sample(others, limit, seed)], "examples": [row.id for row in examples]}

    def make() -> Recorder:
        recorder = Recorder()

        def solver(_: object, questions: Any, examples: Any, lm: object, tokens: int, __: object) -> SimpleNamespace:
            ids = {"questions": [row.id for row in questions], "examples": [row.id for row in examples]}
            recorder.keep(tokens=tokens, **ids)
            return SimpleNamespace(draw=None)

        monkeypatch.setattr("udr_training.answering.PaidAnswers", nothing_paid)
        monkeypatch.setattr("udr_training.answering.ServerLM", asking(recorder, "model"))
        for name, stand_in in (("Solver", solver), ("is_worked", is_worked), ("check_task", lambda _: None)):
            monkeypatch.setattr(solving, name, stand_in)
        monkeypatch.setattr(search, "grow", lambda trees, draw, limits, how: recorder(limits=limits, how=how))
        return recorder

    changes: Changes = {
        **of_servers("model"),
        "tasks": ("--tasks reviews", drawn("reviews")),
        "lm": (f"--lm {SERVER}2", {"model.lm": f"{SERVER}2"}),
        "limit": ("--limit 5", {"questions": drawn(limit=5)["questions"]}),
        "seed": ("--limit 15 --seed 3", drawn(limit=15, seed=3)),
        "shots": ("--shots 3", {"examples": drawn(shots=3)["examples"]}),
        "method": ("--method rejection", {"how": search.METHODS["rejection"]}),
        "paths": ("--paths 5", {"limits.enough": 5}),
        "tries": ("--tries 6", {"limits.tries": 6}),
        "batch": ("--batch 3", {"limits.batch": 3}),
        "solution_tokens": ("--solution-tokens 70", {"tokens": 70}),
    }
    given = (tasks, "--tasks", "reverse", "--lm", SERVER, "--out", tmp_path / "solved")
    assert_each_arrives("pool synthesise", given, make, changes, {"out", "as_json"})
