"""Tensor parallelism: processes that hold a decoder together have the gradients, losses and weights of one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.training.conftest import Udr, assert_refused
from tests.training.trainer.group_training import (
    assert_same_gradients,
    nothing,
    record_tensor_parallel_gradients,
    train_and_compare,
)
from tests.training.trainer.small_trainings import TEXTS, Tasks, metrics
from tests.udr.models.tiny_encoders import save_architecture
from udr.errors import ConfigError
from udr_training.config import TrainConfig
from udr_training.trainer import starting_model, train_encoder, train_on

LARGE = {"dtype": "bfloat16", "fsdp": True, "gradient_checkpointing": True, "mini_batch": 3}
"""The settings of the command in docs/scaling.md."""

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_groups_that_hold_a_decoder_together_have_the_gradients_of_one_process(tmp_path: Path) -> None:
    decoders = [save_architecture(tmp_path / name, name) for name in ("qwen3", "llama", "gemma3")]
    for count, size in ((1, 1), (2, 2), (4, 2)):
        passed = (decoders, size, tmp_path / str(count))
        train_on(count, record_tensor_parallel_gradients, *passed, on_step=nothing)
    one, two, four = (torch.load(tmp_path / str(count), weights_only=True) for count in (1, 2, 4))
    assert len(one) == len(two) == 12 and len(four) == 24
    for name, shared in [*two.items(), *four.items()]:
        assert_same_gradients(name, shared, one)
        share = float(shared["held"] / one[name.removesuffix(", sharded")]["held"])
        assert share == pytest.approx(0.25 if "sharded" in name else 0.5, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "settings"),
    [(2, {}), (4, {"towers": 2, "fsdp": True}), (4, LARGE)],
)
def test_processes_that_hold_a_decoder_together_train_the_same_model(
    examples: Tasks, config: TrainConfig, tmp_path: Path, count: int, settings: dict[str, Any]
) -> None:
    decoder = save_architecture(tmp_path / "decoder", "qwen3")
    config = replace(config, model=str(decoder), batch_size=3, **settings)
    arms = {1: replace(config, fsdp=False), count: replace(config, tensor_parallel=2)}
    for number, settled in arms.items():
        passed = (examples, settled, 0, config.model, tmp_path / str(number))
        train_on(number, train_encoder, *passed, on_step=nothing)
    one, several = (metrics(tmp_path / str(number)) for number in arms)
    assert len(several) == len(one) > 8
    rounded = "dtype" in settings
    for line, other in zip(one, several, strict=True):
        # What bfloat16 rounds may change the order of a validation.
        if "loss" in line and rounded:
            assert other["loss"] == pytest.approx(line["loss"], rel=5e-2)
        elif not rounded:
            assert other == {name: pytest.approx(value, abs=1e-3) for name, value in line.items()}
    assert np.ptp([line["loss"] for line in one if "loss" in line]) > 0.01
    vectors = [SentenceTransformer(str(tmp_path / str(n) / "model"), device="cpu").encode(TEXTS) for n in arms]
    np.testing.assert_allclose(vectors[1], vectors[0], atol=5e-2 if rounded else 1e-3)


@pytest.mark.slow
def test_processes_that_hold_a_decoder_together_have_the_same_dropout(
    examples: Tasks, config: TrainConfig, tmp_path: Path
) -> None:
    decoder = save_architecture(tmp_path / "decoder", "gpt_neox")
    config = replace(config, model=str(decoder), tensor_parallel=2)
    train_on(2, train_and_compare, examples, config, tmp_path, on_step=nothing)
    assert float(torch.load(tmp_path / "apart")) == 0
    losses = [line["loss"] for line in metrics(tmp_path) if "loss" in line]
    assert np.ptp(losses) > 0.01


def tensor_parallel(size: int) -> list[object]:
    return ["--set", f"train.tensor_parallel={size}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--processes", 2, *tensor_parallel(2)],
            "is bert, which has none; split its weights by train.fsdp instead",
        ),
        (
            [*tensor_parallel(2), "--set", "train.lora_rank=2"],
            "adapters nor a reward model; found --set train.lora_rank",
        ),
        (
            [*tensor_parallel(2), "--extrapolate", "reward"],
            "'reward'; leave that out, or split the weights by",
        ),
        ([*tensor_parallel(0)], "train.tensor_parallel must be at least 1, found 0"),
    ],
)
def test_what_tensor_parallelism_cannot_train_is_refused(
    udr: Udr, command: list[object], tmp_path: Path, options: list[object], message: str
) -> None:
    assert_refused(udr(*command, "--out", tmp_path / "run", *options), 2, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [*tensor_parallel(2)],
            "of 2 processes, of which 2 hold the weights together; found 1; use --processes 2",
        ),
        (["--processes", 3, *tensor_parallel(2)], "found 3; use --processes 4"),
        (["--processes", 3, *tensor_parallel(3)], "train.tensor_parallel must divide the num_attention_heads of "),
        (["--processes", 4, *tensor_parallel(4)], "train.tensor_parallel must divide the num_key_value_heads of "),
        (
            ["--processes", 2, *tensor_parallel(2), "--set", "train.fsdp=true"],
            "among groups of 2 processes (train.tensor_parallel), but there is one group; use --processes 4",
        ),
        (
            ["--processes", 2, *tensor_parallel(2), "--set", "train.optimizer=adafactor"],
            "train.tensor_parallel needs a train.optimizer that treats each weight alone",
        ),
        (
            ["--processes", 10, *tensor_parallel(2)],
            "of task 'colours' has 4 queries; use at most --processes 8",
        ),
    ],
)
def test_processes_that_cannot_hold_a_decoder_together_are_refused(
    udr: Udr, command: list[object], tmp_path: Path, options: list[object], message: str
) -> None:
    decoder = save_architecture(tmp_path / "decoder", "qwen3")
    assert_refused(udr(*command, "--model", decoder, "--out", tmp_path / "run", *options), 2, message)


def test_a_model_that_is_split_in_ways_that_are_not_known_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    decoder = save_architecture(tmp_path / "decoder", "phi3")
    message = "does not know 'colwise_gather_output', a way to split layers in Transformers' plan for phi3"
    with pytest.raises(ConfigError, match=message):
        starting_model(replace(config, tensor_parallel=2), str(decoder))
