"""What tests of several processes run in each of them: functions that a process finds by name."""

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.training.trainer.small_trainings import Tasks, interrupted
from udr_training.config import LOSSES, TrainConfig
from udr_training.losses import CandidateLoss, average_gradients, num_processes, process_number
from udr_training.trainer import shard, train_encoder

QUERIES, LENGTH = 5, 4


def end_together(on_step: Callable[[int, int], None]) -> None:
    """Have the second process be killed, and the first one fail of that."""
    if process_number() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    on_step(1, 1)
    raise RuntimeError("Connection closed by peer")


def record_gradients(config: TrainConfig, file: Path, on_step: Callable[[int, int], None]) -> None:
    """Save the loss and the gradients of one batch, of which each process has a part, for every kind of loss.

    Several processes also compute those of sharded weights.
    """
    first, end = (QUERIES * number // num_processes() for number in (process_number(), process_number() + 1))
    columns = [[f"{'long ' * (query * column % 5)}text {query}" for query in range(QUERIES)] for column in range(5)]
    scores = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) * 7 % 11
    keys = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) % 13
    # A query is a copy of a candidate of another process, and so are candidates.
    labels = torch.cat([scores, keys, torch.arange(QUERIES)[:, None]], dim=1).float()
    results: dict[str, Any] = {}
    for kind in LOSSES:
        shards = (False, True) if num_processes() > 1 and kind == "udr" else (False,)
        for mini_batch, sharded in itertools.product((0, 3), shards):
            model = SentenceTransformer(config.model, device="cpu").eval()
            if sharded:
                shard(model)
            settings = replace(config, loss=kind, mini_batch=mini_batch, score_margin=0.1, score_temperature=1.0)
            loss = CandidateLoss.of(model, settings)
            value = loss([model.preprocess(column[first:end]) for column in columns], labels[first:end])
            value.backward()
            if num_processes() > 1 and not sharded:
                average_gradients(model.parameters())
            parts: list[Any] = list(model.parameters())
            held = sum((weight.to_local() if sharded else weight).numel() for weight in parts)
            gradients: dict[str, Any] = {
                name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
            }
            if sharded:
                gradients = {name: gradient.full_tensor() for name, gradient in gradients.items()}
            name = f"{kind}, {mini_batch}{', sharded' * sharded}"
            results[name] = {"loss": value.detach(), "held": torch.tensor(float(held)), **gradients}
    on_step(1, 1)
    if process_number() == 0:
        torch.save(results, file)


def assert_same_gradients(one: Path, two: Path) -> None:
    """Compare what one process and two have recorded; two also recorded the gradients of sharded weights."""
    alone, together = (torch.load(file, weights_only=True) for file in (one, two))
    assert len(alone) == 2 * len(LOSSES) and len(together) == len(alone) + 2 and together.keys() > alone.keys()
    for name, shared in together.items():
        values, sharded = dict(alone[name.removesuffix(", sharded")]), name.endswith("sharded")
        assert shared.keys() == values.keys() and len(values) > 10
        assert shared.pop("held") == values.pop("held") / (2 if sharded else 1)
        largest = max(float(value.abs().max()) for value in values.values())
        assert largest > 1e-3
        # Large summands that cancel leave the rounding of the largest.
        bound = 1e-5 * max(1, largest)
        for key, value in values.items():
            torch.testing.assert_close(shared[key], value, atol=bound, rtol=1e-5, msg=f"{name}: {key}")


def train_and_resume(tasks: Tasks, config: TrainConfig, folder: Path, on_step: Callable[[int, int], None]) -> None:
    """Train with shards; again, with an interruption, after which the training goes on with shards, or without."""
    train_encoder(tasks, config, 0, config.model, folder / "whole")
    for sharded in (True, False):
        interrupted(tasks, config, folder / str(sharded), 8, pytest.MonkeyPatch())
        assert list((folder / str(sharded) / "checkpoints").iterdir())
        train_encoder(tasks, replace(config, fsdp=sharded), 0, config.model, folder / str(sharded))
