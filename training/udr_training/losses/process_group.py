"""The group of processes that train together: each one's number, and what they send one another.

Without a group, a process is the first and only one. Gradients follow the convention of torch's DDP and FSDP, which
average them over the processes.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

_Value = TypeVar("_Value")


def num_processes() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _is_open() else 1


def process_number() -> int:
    """Return the number of this process in its group, from 0; the first one writes."""
    return distributed.get_rank() if _is_open() else 0


def wait_for_all() -> None:
    """Return once every process has called this."""
    if num_processes() > 1:
        distributed.barrier()


def agreed(decide: Callable[[], _Value]) -> _Value:
    """Return what the first process decides, on every process."""
    values: list[Any] = [decide() if process_number() == 0 else None]
    if num_processes() > 1:
        distributed.broadcast_object_list(values)
    value: _Value = values[0]
    return value


def gathered(*parts: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of every process's part of a batch, in the order of the processes.

    The gradients are those of the loss of the whole batch, if every process computes that loss and then averages its
    gradients with the others': a part's own are multiplied by the number of processes.

    Args:
        parts: tensors whose first dimension is the part's rows; processes may have different numbers of rows.
    """
    if num_processes() == 1:
        return parts
    own = torch.tensor([len(parts[0])], device=parts[0].device)
    counts = [torch.empty_like(own) for _ in range(num_processes())]
    distributed.all_gather(counts, own)
    rows = [int(count) for count in counts]
    gather: Any = _Gather
    return tuple(gather.apply(part, rows) for part in parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: FunctionCtx, part: Tensor, rows: list[int]) -> Tensor:
        context.rows = rows  # type: ignore[attr-defined]
        # Equal shapes are needed.
        padded = part.new_zeros(max(rows), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in rows]
        distributed.all_gather(parts, padded)
        return torch.cat([own[:count] for own, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        rows: list[int] = context.rows  # type: ignore[attr-defined]
        first = sum(rows[: process_number()])
        return gradient[first : first + rows[process_number()]] * len(rows), None


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, which have gradients for the same parameters."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # Gloo has no mean.
    sums: list[Any] = [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]
    for pending, gradient in zip(sums, gradients, strict=True):
        pending.wait()
        gradient.div_(num_processes())


def most_passes(count: int, model: torch.nn.Module) -> int:
    """Return how many passes through a model every process makes, of which this one needs ``count``.

    Through a sharded model, which is collective, these are as many as any process needs.
    """
    if num_processes() == 1:
        return count
    from torch.distributed.tensor import DTensor

    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return count
    most = torch.tensor(count, device=next(model.parameters()).device)
    distributed.all_reduce(most, distributed.ReduceOp.MAX)
    return int(most)


def _is_open() -> bool:
    return distributed.is_available() and distributed.is_initialized()
