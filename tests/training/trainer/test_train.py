"""One training with each of its options: what is saved, what is told meanwhile, what stops it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.training.small_trainings import TEXTS, metrics, never_better, trained, unwatched
from udr.errors import ConfigError
from udr_training.config import LOSSES, TrainConfig
from udr_training.trainer import RankValidation, TaskExamples, merge_adapters, starting_model


def test_losses_and_validations_are_told_line_by_line(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path
) -> None:
    trained(brought, config, tmp_path)
    lines = metrics(tmp_path)
    losses, validations = ([line for line in lines if name in line] for name in ("loss", "ndcg"))
    # Two tasks, eight learned queries each, batches of four, two visits: eight steps; six validations.
    assert [line["step"] for line in losses] == list(range(1, 9)) and losses[-1]["epoch"] == 2
    assert all(line.keys() == {"step", "epoch", "loss", "learning_rate"} for line in losses)
    assert len(validations) >= 6 and validations[0]["step"] == 0
    for line in validations:
        for measure in ("ndcg", "mrr"):
            values = line[measure]
            assert isinstance(values, dict) and values.keys() == {"reviews", "colours", "mean"}
            assert all(0 < value <= 1 for value in values.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "model"]


def test_the_best_checkpoint_is_kept(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[torch.Tensor] = []
    judged = RankValidation.__call__

    def falling(self: RankValidation, model: SentenceTransformer, *rest: object, **more: object) -> dict[str, float]:
        states.append(next(model.parameters()).detach().clone())
        return {**judged(self, model), "ndcg_mean": 1 / len(states)}

    monkeypatch.setattr(RankValidation, "__call__", falling)
    model = trained(brought, config, tmp_path)
    # The first was before the training.
    assert len(states) >= 6 and not torch.equal(states[1], states[-1])
    torch.testing.assert_close(next(model.parameters()).detach(), states[1], atol=0, rtol=0)


def test_a_training_that_gets_no_better_stops(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_better(monkeypatch)
    patient = replace(config, epochs=20, patience=3)
    trained(brought, patient, tmp_path)
    last = metrics(tmp_path)[-1]["epoch"]
    # The first validation is the best; three epochs without a better one follow.
    assert last == pytest.approx(4)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_in_mini_batches_as_at_once(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, loss: str
) -> None:
    # Without dropout the two ways are one.
    model = SentenceTransformer(config.model, device="cpu")
    inner = model.transformers_model
    assert inner is not None
    inner.config.hidden_dropout_prob = inner.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(tmp_path / "start"))
    own = replace(config, model=str(tmp_path / "start"), loss=loss, draws="stratified")
    whole, parts = (trained(unwatched(brought), replace(own, mini_batch=size), tmp_path / str(size)) for size in (0, 3))
    base = SentenceTransformer(own.model, device="cpu").encode(TEXTS)
    assert np.abs(whole.encode(TEXTS) - base).max() > 1e-3
    np.testing.assert_allclose(parts.encode(TEXTS), whole.encode(TEXTS), atol=1e-2)


def test_a_training_starts_from_the_model_it_is_given(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path
) -> None:
    first = trained(brought, config, tmp_path / "first")
    still = replace(config, learning_rate=1e-12)
    warm = trained(brought, still, tmp_path / "warm", str(tmp_path / "first" / "model"))
    np.testing.assert_allclose(warm.encode(TEXTS), first.encode(TEXTS), atol=1e-5)


def test_adapters_are_trained_and_merged(brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = trained(unwatched(brought), replace(config, lora_rank=2), tmp_path)
    base = SentenceTransformer(config.model, device="cpu")
    assert model.state_dict().keys() == base.state_dict().keys()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, base.state_dict()[name])}
    # Adapters stand beside linear layers; embeddings stay as they were.
    assert changed and all("embeddings" not in name and "LayerNorm" not in name for name in changed)


def test_merged_adapters_give_the_vectors_that_they_gave(config: TrainConfig) -> None:
    pytest.importorskip("peft")
    model = starting_model(replace(config, lora_rank=2), config.model).eval()
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 14
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    before = model.encode(TEXTS)
    merge_adapters(model)
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-5)
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("towers", [1, 2])
def test_pooling_may_be_asked_for(config: TrainConfig, tmp_path: Path, towers: int) -> None:
    model = starting_model(replace(config, pooling="cls", towers=towers), config.model)
    model.save_pretrained(str(tmp_path / "cls"))
    opened = SentenceTransformer(str(tmp_path / "cls"), device="cpu")
    tokens: Any = opened.encode_document(["a text"], output_value="token_embeddings")
    first = tokens[0][0]
    np.testing.assert_allclose(opened.encode_document(["a text"])[0], first.detach().numpy(), atol=1e-6)


def test_what_an_encoder_of_two_towers_cannot_do_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    path = str(tmp_path / "two")
    starting_model(replace(config, towers=2), config.model).save_pretrained(path)
    with pytest.raises(ConfigError, match="0 pooling modules of its own"):
        starting_model(replace(config, pooling="cls", model=path), path)
    with pytest.raises(ConfigError, match="has two towers; leave it at 0"):
        starting_model(replace(config, lora_rank=2, model=path), path)
    # A warm start finds the pooling that was asked for in the model that the iteration before left.
    starting_model(replace(config, pooling="cls", towers=2), path)


@pytest.mark.parametrize("optimizer", ["adafactor", "lomo", pytest.param("adalomo", marks=pytest.mark.gpu)])
def test_other_optimizers_of_transformers_train(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, optimizer: str
) -> None:
    if optimizer.endswith("lomo"):
        pytest.importorskip("lomo_optim")
    model = trained(unwatched(brought), replace(config, optimizer=optimizer), tmp_path)
    base = SentenceTransformer(config.model, device="cpu")
    assert np.abs(model.encode(TEXTS) - base.encode(TEXTS)).max() > 1e-4


def test_an_unknown_optimizer_is_refused(brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.optimizer must be one of adamw_torch, "):
        trained(brought, replace(config, optimizer="none"), tmp_path)


def test_an_optimizer_whose_package_is_missing_is_named(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_lomo_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.optimizer 'lomo' cannot be used: .*lomo_optim"):
        trained(brought, replace(config, optimizer="lomo"), tmp_path)


def test_a_best_model_that_cannot_be_loaded_is_an_error(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no such checkpoint")

    monkeypatch.setattr("udr_training.trainer.train._Trainer._load_from_checkpoint", broken)
    with pytest.raises(OSError, match="no such checkpoint"):
        trained(brought, config, tmp_path)
    assert not (tmp_path / "model").exists()


def test_too_few_queries_to_watch_are_told(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(unwatched(brought), replace(config, epochs=1), tmp_path)
    assert "too few queries to hold out a share of 0.1; using the last model" in caplog.text


def test_tensorboard_gets_what_the_trainer_reports(
    brought: dict[str, TaskExamples], config: TrainConfig, tmp_path: Path
) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained(brought, replace(config, tensorboard=True, epochs=1), tmp_path)
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "eval/ndcg_mean", "eval/mrr_reviews"} <= set(events.Tags()["scalars"])
