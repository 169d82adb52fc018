"""What is checked before processes share a training."""

import os

import torch

from udr.errors import ConfigError
from udr_training.config import RunConfig, updates_while_backward

_SHARDABLE = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop")
"""Torch's own optimizers; others mix whole tensors with parts (adafactor), or were not tried."""


def check_processes(count: int, config: RunConfig, num_queries: dict[str, int]) -> None:
    """Raise a ``ConfigError`` if a training cannot run on so many processes.

    Args:
        count: the processes.
        config: the run's.
        num_queries: the queries of each task in the first iteration, held-out ones included.
    """
    train, group = config.train, config.train.tensor_parallel
    if count % group:
        raise ConfigError(
            f"train.tensor_parallel = {group} needs a multiple of {group} processes, of which {group} hold the weights "
            f"together; found {count}; use --processes {(count // group + 1) * group}"
        )
    if train.fsdp and count == group > 1:
        raise ConfigError(
            f"train.fsdp splits the weights again, among groups of {group} processes (train.tensor_parallel), but "
            f"there is one group; use --processes {2 * group}, or leave train.fsdp out"
        )
    if count == 1:
        if train.fsdp:
            raise ConfigError("train.fsdp splits the weights among processes, but there is one; add --processes 2")
        return
    # Torchrun's may be on several machines.
    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if 0 < gpus < here:
        raise ConfigError(f"--processes {count} needs a GPU for each, found {gpus}")
    if updates_while_backward(train.optimizer):
        raise ConfigError(
            f"--processes {count} needs a train.optimizer that steps after the backward pass, when gradients are "
            f"averaged; {train.optimizer} updates the weights during it"
        )
    if (train.fsdp or group > 1) and train.optimizer not in _SHARDABLE:
        raise ConfigError(
            f"{'train.fsdp' if train.fsdp else 'train.tensor_parallel'} needs a train.optimizer that treats each "
            f"weight alone, one of {', '.join(_SHARDABLE)}; found {train.optimizer!r}"
        )
    for task, queries in num_queries.items():
        size = min(train.batch_size, train.num_learned(queries))
        if size < count // group:
            raise ConfigError(
                f"--processes {count} share each batch, but a batch of task {task!r} has {size} queries; use at most "
                f"--processes {size * group}"
            )
