"""Configuration: presets, files and options, and what is refused."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.options import flat
from udr.errors import ConfigError
from udr.models import BASE_ENCODER
from udr_training.config import PRESETS, RunConfig, ScoringConfig, from_toml, load_config, settings_of, to_toml


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_is_read_back_from_toml(preset: str) -> None:
    config = load_config(preset, {"tasks": ["a", "b"], "seed": 3, "feedback.lm": 'a "quoted" \\ name'})
    assert from_toml(to_toml(config), RunConfig) == config
    scoring = from_toml(to_toml(config), ScoringConfig)
    assert type(scoring) is ScoringConfig
    assert (scoring.tasks, scoring.seed, scoring.feedback) == (("a", "b"), 3, config.feedback)


def test_options_override_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("seed = 7\n[train]\nepochs = 2\nbatch_size = 3\n", "utf-8")
    config = load_config("cpu", {"train.epochs": 9, "train.model": None}, file)
    assert (config.seed, config.train.epochs, config.train.batch_size, config.train.iterations) == (7, 9, 3, 2)


def test_trainings_start_from_the_base_encoder_and_benchmarks_measure_it() -> None:
    assert RunConfig().train.model == BASE_ENCODER
    root = Path(__file__).parents[3]
    files = [*(root / "benchmarks").rglob("*.py"), root / "training" / "udr_training" / "config" / "run.py"]
    assert [file.name for file in files if "DEFAULT_ENCODER" in file.read_text("utf-8")] == []


@pytest.mark.parametrize("preset", ["cpu", "default", "paper"])
def test_presets_fit_all_kinds(preset: str) -> None:
    for kind in ("completions-echo", "chat-logprobs", "metric", "rank", "outcomes"):
        address = "http://host/v1" if kind == "completions-echo" else "http://host/v1?api=chat"
        config = load_config(preset, {"feedback.kind": kind, "feedback.lm": address})
        assert config.feedback.kind == kind


def test_paper_preset_has_the_papers_numbers() -> None:
    config = load_config("paper", {})
    train = config.train
    assert config.candidates.num_candidates == 50
    assert (train.list_length, train.ranking_weight, train.batch_size, train.learning_rate) == (8, 0.8, 128, 1e-4)
    assert (train.temperature, train.alpha, train.iterations, train.towers) == (0, 0.5, 3, 2)


@pytest.mark.parametrize("preset", ["cpu", "default"])
def test_other_presets_have_the_balance_of_the_authors_code(preset: str) -> None:
    train = load_config(preset, {}).train
    # A sum over pairs in place of 0.8 times their mean.
    weight = 0.8 / math.comb(train.list_length, 2)
    assert train.ranking_weight == pytest.approx(weight / (weight + 0.2), abs=0.011)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.epochs": 0}, "train.epochs must be at least 1, found 0"),
        ({"feedback.pack_tokens": -1}, "feedback.pack_tokens must be at least 0, found -1"),
        ({"tasks": ["reviews", "mean"]}, "a task is named 'mean', as metrics.jsonl names the mean of all tasks"),
        ({"train.extrapolate": "all"}, "train.extrapolate must be one of off, labels, reward, found 'all'"),
        (
            {"train.extrapolate": "reward", "reward.candidates": 3},
            "reward.candidates must be at least 6, found 3",
        ),
        (
            {"candidates.num_candidates": 12, "candidates.random_share": 0.5, "candidates.shared": 6},
            r"candidates.shared \(6\) must exceed the 6 random candidates of a query",
        ),
        ({"candidates.later": "other"}, "candidates.later must be one of same, new, allocated, found 'other'"),
        ({"candidates.later": "new", "train.iterations": 1}, "candidates.later = 'new' needs train.iterations above 1"),
        ({"candidates.later": "allocated", "train.validation": 0.0}, "needs train.validation above 0: held-out scores"),
        ({"train.temperature": float("nan")}, "train.temperature must be at least 0, found nan"),
        ({"train.score_margin": float("inf")}, "train.score_margin must be at least 0, found inf"),
        ({"train.learning_rate": 0.0}, "train.learning_rate must be above 0, found 0.0"),
        ({"candidates.random_share": 1.5}, "between 0 and 1, found 1.5"),
        ({"train.towers": 3}, "train.towers must be one of 1, 2, found 3"),
        ({"train.dtype": "float16"}, "train.dtype must be one of float32, bfloat16, found 'float16'"),
        ({"train.loss": "hinge"}, "train.loss must be one of udr, lambda, epr, kl, margin_mse, mnrl, found 'hinge'"),
        ({"train.list_length": 99}, "must not exceed candidates.num_candidates"),
        ({"train.validation": 0.0, "train.patience": 1}, "train.patience needs train.validation above 0"),
        ({"train.lora_rank": 4, "train.towers": 2}, "train.lora_rank needs train.towers = 1"),
        ({"train.mini_batch": 8, "train.optimizer": "lomo"}, "train.mini_batch needs a train.optimizer"),
        ({"train.mini_batch": 8, "train.optimizer": "galore_adamw_layerwise"}, "train.mini_batch needs"),
        (
            {"train.loss": "epr", "train.ranking_weight": 0.5},
            "train.ranking_weight has no effect with train.loss 'epr'",
        ),
        ({"train.loss": "mnrl", "train.ranking_weight": 0.5}, "has no effect with train.loss 'mnrl'; omit it, or"),
        ({"train.loss": "mnrl", "train.score_margin": 0.1}, "train.score_margin has no effect with train.loss 'mnrl'"),
        ({"train.loss": "mnrl", "train.batch_size": 1}, "train.loss 'mnrl' needs train.batch_size above 1"),
        ({"train.validation": 1.0}, "train.validation must be at least 0 and below 1, found 1.0"),
        ({"train.score_temperature": 1.0}, "train.score_temperature has no effect with train.loss 'udr'"),
        ({"reward.epochs": 9}, "reward.epochs has no effect without train.extrapolate 'reward'; add that, or omit"),
        ({"feedback.samples": 4}, "samples has no effect with feedback.kind 'likelihood'; omit it: it is for metric$"),
        ({"feedback.list_options": True}, "list_options has no effect .*: it is for chat-logprobs and metric$"),
        (
            {"feedback.kind": "rank", "feedback.lm": "http://host/v1?api=chat", "feedback.layout": "system"},
            "feedback.layout has no effect with feedback.kind 'rank'",
        ),
        (
            {"feedback.kind": "metric", "feedback.lm": "http://host/v1?api=chat", "feedback.listed": 4},
            "feedback.listed has no effect with feedback.kind 'metric'; omit it: it is for rank$",
        ),
        (
            {"feedback.kind": "outcomes", "feedback.lm": "http://host/v1", "feedback.lm_set": ["concurrency=2"]},
            "lm_set has no effect .*: it is for likelihood, completions-echo, chat-logprobs, metric and rank$",
        ),
        ({"train.epoch": 3}, "unknown setting 'epoch'"),
        ({"tasks": "a"}, "'tasks' must be a list of names, found 'a'"),
        ({"train.validation": True}, "'validation' must be of type float, found True"),
        ({"train.epochs": {}}, "'epochs' must be of type int, found {}"),
        ({"train.epochs": "3"}, "'epochs' must be of type int, found '3'"),
        ({"train.epochs": True}, "'epochs' must be of type int, found True"),
        ({"train.warm_start": 1}, "'warm_start' must be of type bool, found 1"),
    ],
)
def test_invalid_settings_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_config("cpu", overrides)


def test_presets_and_files_may_set_what_another_loss_has(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(to_toml(load_config("cpu", {"train.loss": "epr"})), "utf-8")
    assert load_config("paper", {"train.epochs": 2}, file).train.loss == "epr"
    rewarded = {"train.extrapolate": "reward", "reward.epochs": 9, "train.score_temperature": 0.5}
    assert load_config("cpu", rewarded).reward.epochs == 9


def test_settings_are_toml_values_or_bare_words() -> None:
    settings = settings_of(["train.loss=kl", "train.warm_start = true", "train.epochs=3", 'feedback.lm="a=b"'])
    assert settings == {"train.loss": "kl", "train.warm_start": True, "train.epochs": 3, "feedback.lm": "a=b"}
    config = load_config("cpu", settings)
    assert (config.train.loss, config.train.warm_start) == ("kl", True)
    with pytest.raises(ConfigError, match=r"a setting must be NAME=VALUE, such as train\.epochs=4; found 'epochs'"):
        settings_of(["epochs"])


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.patience": 2, "train.validation": 0.1},
        {"train.validation": 0.1, "train.patience": 2},
        {"train.list_length": 60, "candidates.num_candidates": 70},
    ],
)
def test_settings_that_are_valid_together_are_accepted_in_any_order(overrides: dict[str, object]) -> None:
    assert flat(asdict(load_config("paper", overrides))).items() >= overrides.items()


@pytest.mark.parametrize(
    ("text", "message"), [(None, "No such file or directory; check the path"), ("= 3", "not TOML")]
)
def test_unreadable_file_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=f"config.toml: {message}"):
        load_config("cpu", {}, tmp_path / "config.toml")
