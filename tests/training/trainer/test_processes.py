"""A training on two processes, over gloo: gradients and weights of one process, and a process that is killed."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from tests.training.conftest import Udr, assert_refused
from tests.training.trainer.group_training import (
    assert_same_records,
    end_together,
    nothing,
    record_gradients,
    train_and_resume,
)
from tests.training.trainer.small_trainings import TEXTS, Tasks, metrics
from tests.udr.models.tiny_encoders import save_architecture
from udr.errors import ConfigError, TrainingError
from udr_training.config import TrainConfig
from udr_training.trainer import train_encoder, train_on

LARGE = {"lora_rank": 2, "dtype": "bfloat16", "gradient_checkpointing": True, "mini_batch": 3}
"""What an encoder of billions of parameters is trained with."""

RECIPE = (
    "--train-dtype bfloat16 --set train.fsdp=true --set train.gradient_checkpointing=true --set train.mini_batch=32 "
    "--set train.lora_rank=2"
)
"""Its command, but for its sizes, in docs/scaling.md."""

pytestmark = pytest.mark.timeout(600)


def test_loss_and_gradients_of_a_shared_batch_equal_those_of_one_process(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The two share what takes ten seconds to import; the slow tests start theirs as users do.
    start: Any = torch.multiprocessing
    multiprocessing.set_forkserver_preload(["sentence_transformers", "transformers.trainer", "peft"])
    monkeypatch.setattr(start, "spawn", partial(start.start_processes, start_method="forkserver"))
    steps: list[tuple[int, int]] = []
    decoder = save_architecture(tmp_path / "decoder", "qwen3")
    for count in (1, 2):
        passed = (config, decoder, tmp_path / str(count))
        train_on(count, record_gradients, *passed, on_step=lambda *step: steps.append(step))
    # The second process reports nothing.
    assert steps == [(1, 1)] * 2
    assert_same_records(tmp_path / "1", tmp_path / "2")


def trained(tasks: Tasks, config: TrainConfig, folder: Path, count: int, kill_at: int = 0) -> dict[str, torch.Tensor]:
    """Train on some processes, of which one may be killed at a step; return the weights."""

    def on_step(done: int, _: int) -> None:
        if done == kill_at > 0:
            last = max(multiprocessing.active_children(), key=lambda process: process.pid or 0)
            os.kill(last.pid or 0, signal.SIGKILL)

    train_on(count, train_encoder, tasks, config, 0, config.model, folder, on_step=on_step)
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
@pytest.mark.parametrize("settings", [{"batch_size": 3, "pooling": "cls"}, {"towers": 2, "mini_batch": 3}, LARGE])
def test_two_processes_train_on_the_same_tasks_to_the_same_model(
    examples: Tasks, config: TrainConfig, tmp_path: Path, settings: dict[str, Any], fsdp: bool
) -> None:
    config = replace(config, model=str(without_dropout(config, tmp_path / "start")), **settings)
    for count, settled in ((1, config), (2, replace(config, fsdp=fsdp))):
        train_on(count, train_encoder, examples, settled, 0, config.model, tmp_path / str(count), on_step=nothing)
    one, two = (metrics(tmp_path / str(count)) for count in (1, 2))
    assert [line.keys() for line in two] == [line.keys() for line in one] and len(one) > 8
    # A batch of another task would have another loss.
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (one, two)]
    # bfloat16 rounds parts of a batch otherwise than the whole.
    rounded = "dtype" in settings
    np.testing.assert_allclose(losses[1], losses[0], atol=2e-2 if rounded else 1e-4)
    assert np.ptp(losses[0]) > 0.01
    vectors = [SentenceTransformer(str(tmp_path / name / "model"), device="cpu").encode(TEXTS) for name in ("1", "2")]
    np.testing.assert_allclose(vectors[1], vectors[0], atol=3e-2 if rounded else 1e-3)
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == ["metrics.jsonl", "model"]


def without_dropout(config: TrainConfig, folder: Path) -> Path:
    """Save the model without dropout, which differs between processes."""
    model = SentenceTransformer(config.model, device="cpu")
    inner: Any = model.transformers_model
    inner.config.hidden_dropout_prob = inner.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.slow
def test_a_killed_process_ends_the_training_which_resumes_to_the_same_weights(
    examples: Tasks, config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(config, epochs=5)
    whole = trained(examples, config, tmp_path / "whole", 2)
    message = "training process [12] of 2 was ended by SIGKILL, so the training stopped; run the same command again to"
    with pytest.raises(TrainingError, match=message):
        trained(examples, config, tmp_path / "killed", 2, kill_at=7)
    assert not multiprocessing.active_children() and not (tmp_path / "killed" / "model").exists()
    assert [line for line in metrics(tmp_path / "killed") if "loss" in line]
    resumed = trained(examples, config, tmp_path / "killed", 2)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_is_named_even_if_another_is_found_first_that_failed_of_it() -> None:
    def both_end(*_: int) -> None:
        while any(process.is_alive() for process in multiprocessing.active_children()):
            time.sleep(0.01)

    with pytest.raises(TrainingError, match=r"training process 2 of 2 was ended by SIGKILL.*; run the same command"):
        train_on(2, end_together, on_step=both_end)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "settings", "others"),
    [
        ("bert", {"fsdp": True}, [{}, {"fsdp": False}]),
        ("qwen3", {"tensor_parallel": 2}, [{}, {"tensor_parallel": 1}, {"tensor_parallel": 1, "fsdp": True}]),
        ("qwen3", {}, [{}, {"tensor_parallel": 2}]),
    ],
)
def test_a_training_with_shards_resumes_with_or_without_them(
    examples: Tasks,
    config: TrainConfig,
    tmp_path: Path,
    architecture: str,
    settings: dict[str, Any],
    others: list[dict[str, Any]],
) -> None:
    model = config.model if architecture == "bert" else str(save_architecture(tmp_path / "decoder", architecture))
    config = replace(config, model=model, epochs=3, **settings)
    train_on(2, train_and_resume, examples, config, others, tmp_path, on_step=nothing)
    names = ("whole", *map(str, range(len(others))))
    whole, *resumed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in names)
    for weights, other in zip(resumed, others, strict=True):
        for name, weight in whole.items():
            torch.testing.assert_close(weights[name], weight, atol=1e-5 if other else 0, rtol=0)
    assert metrics(tmp_path / "0") == metrics(tmp_path / "whole")


@pytest.mark.slow
def test_an_error_of_a_process_is_that_of_the_command(examples: Tasks, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.optimizer must be one of adamw_torch, "):
        trained(examples, replace(config, optimizer="none"), tmp_path / "run", 2)
    with pytest.raises(TrainingError, match=r"training process [12] of 2 failed: .*cannot be shared by 2 processes"):
        trained(examples, replace(config, batch_size=1), tmp_path / "run", 2)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["", RECIPE])
def test_the_command_trains_its_encoder_and_reward_model_on_two_processes(
    udr: Udr, command: list[object], tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: str
) -> None:
    run = tmp_path / "run"
    status, out, err = udr(*command, "--out", run, "--processes", 2, "--extrapolate", "reward", *settings.split())
    assert (status, out) == (0, f"{run / 'model'}\n"), err
    assert caplog.text.count("training on 2 processes") == 2 and "step 6 of 6: loss " in caplog.text
    assert "reward model: 18/18 steps in " in err and "training: 6/6 steps in " in err
    assert (run / "iteration-0" / "reward").is_dir() and not (run / "iteration-0" / "reward-checkpoints").exists()
    assert (run / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--processes", 5],
            "--processes 5 share each batch, but a batch of task 'colours' has 4 queries; use",
        ),
        (["--processes", 2, "--set", "train.optimizer=lomo"], "lomo updates the weights during it"),
        (["--set", "train.fsdp=true"], "train.fsdp splits the weights among processes, but there is one; add"),
        (
            ["--processes", 2, "--set", "train.fsdp=true", "--set", "train.optimizer=adafactor"],
            "one of adamw_torch, adamw_torch_fused, sgd, adagrad, rmsprop; found 'adafactor'",
        ),
    ],
)
def test_processes_that_cannot_share_a_training_are_refused(
    udr: Udr, command: list[object], tmp_path: Path, options: list[object], message: str
) -> None:
    assert_refused(udr(*command, "--out", tmp_path / "run", *options), 2, message)
