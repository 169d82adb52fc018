"""One training with each of its options: what it saves and logs, and what stops it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

from tests.training.trainer.small_trainings import (
    TEXTS,
    Tasks,
    metrics,
    never_better,
    out_of_memory,
    trained,
    without_validation,
)
from udr.errors import ConfigError, TrainingError
from udr_training.config import LOSSES, TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import RankValidation, num_steps


def test_losses_and_validations_are_logged_and_the_best_checkpoint_is_kept(
    examples: Tasks,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    states: list[torch.Tensor] = []
    validate = RankValidation.__call__

    def falling(self: RankValidation, model: SentenceTransformer, *rest: object, **more: object) -> dict[str, float]:
        states.append(next(model.parameters()).detach().clone())
        return {**validate(self, model), "ndcg_mean": 1 / len(states)}

    monkeypatch.setattr(RankValidation, "__call__", falling)
    model = trained(examples, config, tmp_path)
    # The first validation is before the training, the second has the best trained model.
    assert len(states) >= 6 and not torch.equal(states[1], states[-1])
    torch.testing.assert_close(next(model.parameters()).detach(), states[1], atol=0, rtol=0)
    assert "the encoder that this training started from: its mean NDCG is 0.5000, and was 1.0000; " in caplog.text

    losses, validations = ([line for line in metrics(tmp_path) if name in line] for name in ("loss", "ndcg"))
    # Two tasks, eight training queries each, batches of four, two visits: eight steps.
    assert [line["step"] for line in losses] == list(range(1, 9)) and losses[-1]["epoch"] == 2
    assert all(line.keys() == {"step", "epoch", "loss", "learning_rate"} for line in losses)
    assert len(validations) == len(states) and validations[0]["step"] == 0
    for values in (line[metric] for line in validations for metric in ("ndcg", "mrr")):
        assert values.keys() == {"reviews", "colours", "mean"} and all(0 < value <= 1 for value in values.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "model"]
    readable = {path.stat().st_mode & 0o777 for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert readable == {(tmp_path / "model").stat().st_mode & 0o666}


def test_queries_are_visited_as_often_as_epochs_says(config: TrainConfig) -> None:
    config = replace(config, epochs=4, batch_size=16)
    steps = {count: num_steps(config, {"task": count}) for count in (10, 31, 135, 160)}
    assert steps == {10: 4, 31: 8, 135: 34, 160: 40}
    for count in range(16, 400):
        visits = num_steps(config, {"task": count}) * 16 / count
        # Half a batch too many or too few in all epochs together, at most.
        assert abs(visits - 4) <= 8 / count + 1e-9
    assert num_steps(config, {"one": 31, "other": 135}) == 42


def test_training_stops_when_validation_does_not_improve(
    examples: Tasks,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    never_better(monkeypatch)
    trained(examples, replace(config, epochs=20, patience=2), tmp_path)
    assert "worse than" not in caplog.text
    # The first validation is the best; two epochs without a better one follow.
    assert metrics(tmp_path)[-1]["epoch"] == pytest.approx(3)
    # WithoutCard: Sentence-Transformers would draw a bar, and show rows in the card of a model.
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "widget" not in capfd.readouterr().err and "widget:" not in card


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_the_same_in_mini_batches_as_at_once(
    examples: Tasks, config: TrainConfig, tmp_path: Path, loss: str
) -> None:
    # Dropout would differ.
    model = SentenceTransformer(config.model, device="cpu")
    inner: Any = model.transformers_model
    inner.config.hidden_dropout_prob = inner.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(tmp_path / "start"))
    tasks = without_validation({"reviews": examples["reviews"]})
    config = replace(config, model=str(tmp_path / "start"), loss=loss, draws="stratified", epochs=1)
    at_once, parts = (
        trained(tasks, replace(config, mini_batch=size), tmp_path / str(size)).encode(TEXTS) for size in (0, 3)
    )
    assert np.abs(at_once - model.encode(TEXTS)).max() > 1e-3
    np.testing.assert_allclose(parts, at_once, atol=1e-2)


def test_training_starts_from_the_given_model_and_writes_tensorboard(
    examples: Tasks, config: TrainConfig, tmp_path: Path
) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    start = SentenceTransformer(config.model, device="cpu")
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.mul_(1.5)
    start.save_pretrained(str(tmp_path / "start"))
    still = replace(config, learning_rate=1e-12, epochs=1, tensorboard=True)
    model = trained(examples, still, tmp_path / "run", str(tmp_path / "start"))
    np.testing.assert_allclose(model.encode(TEXTS), start.encode(TEXTS), atol=1e-5)
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"train/loss", "eval/ndcg_mean", "eval/mrr_reviews"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("optimizer", ["adafactor", "lomo", pytest.param("adalomo", marks=pytest.mark.gpu)])
def test_other_optimizers_of_transformers_train(
    examples: Tasks, config: TrainConfig, tmp_path: Path, optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    if optimizer.endswith("lomo"):
        pytest.importorskip("lomo_optim")
    model = trained(without_validation(examples), replace(config, optimizer=optimizer, epochs=1), tmp_path)
    base = SentenceTransformer(config.model, device="cpu")
    assert np.abs(model.encode(TEXTS) - base.encode(TEXTS)).max() > 1e-4
    assert "too few queries to hold out a share of 0.1 in reviews, colours; using the last model" in caplog.text


def test_tasks_without_held_out_queries_are_named(
    examples: Tasks, config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = {**examples, "reviews": replace(examples["reviews"], validation=())}
    trained(tasks, replace(config, epochs=1), tmp_path)
    assert "share of 0.1 in reviews; the other tasks choose the best checkpoint" in caplog.text
    assert all(line["ndcg"].keys() == {"colours", "mean"} for line in metrics(tmp_path) if "ndcg" in line)


def test_unknown_or_missing_optimizers_are_rejected(
    examples: Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"train\.optimizer must be one of adamw_torch, "):
        trained(examples, replace(config, optimizer="none"), tmp_path)
    monkeypatch.setattr("transformers.trainer_optimizer.is_lomo_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.optimizer 'lomo' cannot be used: .*lomo_optim"):
        trained(without_validation(examples), replace(config, optimizer="lomo"), tmp_path)


def test_a_best_model_that_cannot_be_loaded_is_an_error(
    examples: Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no such checkpoint")

    monkeypatch.setattr(SentenceTransformerTrainer, "_load_from_checkpoint", broken)
    with pytest.raises(OSError, match="no such checkpoint"):
        trained({"reviews": examples["reviews"]}, replace(config, epochs=1), tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({}, "train.mini_batch=32"),
        ({"mini_batch": 32}, "train.mini_batch=16"),
        ({"mini_batch": 1}, "train.gradient_checkpointing=true"),
    ],
)
def test_a_step_that_memory_is_too_small_for_resumes_with_less(
    settings: dict[str, int],
    advice: str,
    examples: Tasks,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CandidateLoss, "forward", out_of_memory)
    changed = replace(config, **settings)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=f"more memory than cpu has; to resume it .* with --set {advice}$"):
        trained(without_validation({"reviews": examples["reviews"]}), changed, tmp_path)


def test_one_process_trains_on_one_of_many_gpus(
    examples: Tasks, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, config = {"reviews": examples["reviews"]}, replace(config, epochs=1)
    trained(tasks, config, tmp_path / "one")
    made: Any = SentenceTransformerTrainingArguments.__post_init__

    def on_two_gpus(self: SentenceTransformerTrainingArguments) -> None:
        made(self)
        self._n_gpu = 2

    # The trainer would double the batch, and spread it by nn.DataParallel.
    monkeypatch.setattr(SentenceTransformerTrainingArguments, "__post_init__", on_two_gpus)
    trained(tasks, config, tmp_path / "two")
    assert metrics(tmp_path / "two") == metrics(tmp_path / "one")
