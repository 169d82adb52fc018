"""What tests of several processes run in each of them: functions that a process finds by name."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.trainer.small_trainings import Tasks, interrupted, without_validation
from udr_training.config import LOSSES, TrainConfig
from udr_training.losses import (
    CandidateLoss,
    data_rank,
    data_size,
    form_tensor_groups,
    joined_in_tensor_group,
    num_processes,
    process_number,
)
from udr_training.trainer import Shards, SharedTraining, starting_model, train_encoder

QUERIES, LENGTH = 5, 4


def nothing(*_: int) -> None:
    pass


def end_together(on_step: Callable[[int, int], None]) -> None:
    """Kill the second process, and have the first one fail because of it."""
    if process_number() == 1:
        # Until the command waits for both to end, so that it finds the first one first.
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    on_step(1, 1)
    raise RuntimeError("Connection closed by peer")


def record_gradients(config: TrainConfig, decoder: Path, file: Path, on_step: Callable[[int, int], None]) -> None:
    """Save the loss and the gradients of one batch, of which each process has a part, for every kind of loss.

    Several processes also compute those of sharded weights. The last ones are of a decoder, which they hold together.
    """
    results: dict[str, Any] = {}
    for kind, mini_batch in itertools.product(LOSSES, (0, 3)):
        settings = replace(config, loss=kind, mini_batch=mini_batch)
        results[f"{kind}, {mini_batch}"] = _gradients(settings)
        if num_processes() > 1 and kind == "udr":
            results[f"{kind}, {mini_batch}, sharded"] = _gradients(replace(settings, fsdp=True))
    results["decoder"] = _gradients(replace(config, model=str(decoder), tensor_parallel=num_processes(), mini_batch=3))
    on_step(1, 1)
    if process_number() == 0:
        torch.save(results, file)


def record_tensor_parallel_gradients(
    decoders: Sequence[Path], size: int, file: Path, on_step: Callable[[int, int], None]
) -> None:
    """Save those of decoders, which each ``size`` processes hold together; those of groups also sharded."""
    results: dict[str, Any] = {}
    for decoder, mini_batch, checkpointed in itertools.product(decoders, (0, 3), (False, True)):
        for fsdp in (False, True) if num_processes() > size else (False,):
            config = TrainConfig(model=str(decoder), mini_batch=mini_batch, gradient_checkpointing=checkpointed)
            name = f"{decoder.name}, {mini_batch}, {checkpointed}{', sharded' * fsdp}"
            results[name] = _gradients(replace(config, tensor_parallel=size, fsdp=fsdp))
    if process_number() == 0:
        torch.save(results, file)


def _gradients(config: TrainConfig) -> dict[str, Any]:
    """Return the loss, the gradients, their norm, and how many weights this process holds."""
    form_tensor_groups(config.tensor_parallel, "cpu")
    first, end = (QUERIES * number // data_size() for number in (data_rank(), data_rank() + 1))
    columns = [[f"{'long ' * (query * column % 5)}text {query}" for query in range(QUERIES)] for column in range(5)]
    scores = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) * 7 % 11
    keys = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) % 13
    # A query is a copy of a candidate of another process, and so are candidates.
    labels = torch.cat([scores, keys, torch.arange(QUERIES)[:, None]], dim=1).float()
    model = starting_model(config, config.model)
    # Gradients are checkpointed in training alone; these models have no dropout, or the tests do without.
    model.train(config.gradient_checkpointing)
    shards = Shards(model, fsdp=config.fsdp)
    loss = CandidateLoss.of(model, replace(config, score_margin=0.1, score_temperature=1.0))
    value = loss([model.preprocess(column[first:end]) for column in columns], labels[first:end])
    value.backward()
    shards.finish_gradients()
    # The optimizer's state has the gradients in its first step.
    weights = dict(model.named_parameters())
    optimizer = torch.optim.SGD(weights.values(), lr=0.0, momentum=0.9)
    optimizer.step()
    state = shards.full_state(optimizer)["state"]
    gradients = {name: state[number]["momentum_buffer"] for number, name in enumerate(weights) if number in state}
    parts: list[Any] = list(weights.values())
    held = sum((weight.to_local() if config.fsdp else weight).numel() for weight in parts)
    clip = shards.clip_gradients if num_processes() > 1 else torch.nn.utils.clip_grad_norm_
    norm = clip(parts, 1e-3)
    return {"loss": value.detach(), "held": torch.tensor(float(held)), "norm": norm, **gradients}


def train_and_resume(
    tasks: Tasks,
    config: TrainConfig,
    others: Sequence[dict[str, Any]],
    folder: Path,
    on_step: Callable[[int, int], None],
) -> None:
    """Train; then for each of some other settings, train until an interruption, and go on with these."""
    train_encoder(tasks, config, 0, config.model, folder / "whole")
    for number, other in enumerate(others):
        interrupted(tasks, config, folder / str(number), 8, pytest.MonkeyPatch())
        assert list((folder / str(number) / "checkpoints").iterdir())
        train_encoder(tasks, replace(config, **other), 0, config.model, folder / str(number))


def train_and_compare(tasks: Tasks, config: TrainConfig, folder: Path, on_step: Callable[[int, int], None]) -> None:
    """Train, and save by how much two processes' weights of norms differ, which both have as a whole."""
    gather, parts = SharedTraining.gather, list[torch.Tensor]()

    def kept(trainer: SharedTraining) -> Any:
        weights = trainer.model.named_parameters()
        parts[:] = [torch.cat([weight.detach().flatten() for name, weight in weights if "norm" in name])]
        return gather(trainer)

    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(SharedTraining, "gather", kept)
        # The best checkpoint would be loaded alike.
        train_encoder(without_validation(tasks), config, 0, config.model, folder)
    both = joined_in_tensor_group(parts[0], 0).chunk(2)
    if process_number() == 0:
        torch.save((both[0] - both[1]).abs().max(), folder / "apart")


def assert_same_gradients(name: str, shared: dict[str, torch.Tensor], one: dict[str, dict[str, torch.Tensor]]) -> None:
    """Compare the loss and gradients of several processes to those of one."""
    values = one[name.removesuffix(", sharded")]
    assert shared.keys() == values.keys() and len(values) > 10
    largest = max(float(value.abs().max()) for key, value in values.items() if key not in ("held", "norm"))
    assert largest > 1e-3
    # Large summands that cancel leave the rounding of the largest.
    bound = 1e-5 * max(1, largest)
    for key in values.keys() - {"held"}:
        torch.testing.assert_close(shared[key], values[key], atol=bound, rtol=1e-5, msg=f"{name}: {key}")


def assert_same_records(one: Path, two: Path) -> None:
    """Compare what one process and two have recorded; two also recorded the gradients of sharded weights."""
    alone, together = (torch.load(file, weights_only=True) for file in (one, two))
    assert len(alone) == 2 * len(LOSSES) + 1 and len(together) == len(alone) + 2 and together.keys() > alone.keys()
    for name, shared in together.items():
        assert_same_gradients(name, shared, alone)
        share = float(shared["held"] / alone[name.removesuffix(", sharded")]["held"])
        # All but norms of a decoder are split.
        assert share == (0.5 if "sharded" in name else pytest.approx(0.5, abs=0.01) if name == "decoder" else 1)
