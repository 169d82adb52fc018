"""The group of processes that train together: each one's number, and what they send one another.

Without a group, a process is the first and only one. Gradients follow the convention of torch's DDP and FSDP, which
average them over the processes.

The processes may form tensor-parallel groups: those of a group compute the same part of a batch together, each with its
part of the weights, and the groups share the batch. Without them, each process is a group of its own.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

_Value = TypeVar("_Value")

_mesh: Any = None
"""The processes by tensor-parallel group and by number in it; None without such groups."""


def form_tensor_groups(size: int, device: str) -> None:
    """Form tensor-parallel groups of ``size`` processes with consecutive numbers; all processes call this.

    Raises:
        RuntimeError: the number of processes is no multiple of it.
    """
    global _mesh
    from torch.distributed.device_mesh import init_device_mesh

    shape, names = (num_processes() // size, size), ("data", "tensor")
    _mesh = init_device_mesh(device, shape, mesh_dim_names=names) if size > 1 else None


def tensor_size() -> int:
    """Return the number of processes of a tensor-parallel group."""
    return 1 if _mesh is None else int(_mesh.size(1))


def tensor_rank() -> int:
    """Return the number of this process in its tensor-parallel group, from 0."""
    return process_number() % tensor_size()


def data_size() -> int:
    """Return how many tensor-parallel groups share a batch."""
    return num_processes() // tensor_size()


def data_rank() -> int:
    """Return the number of this process's tensor-parallel group, from 0, which is that of its part of a batch."""
    return process_number() // tensor_size()


def data_mesh(device: str) -> Any:  # noqa: ANN401
    """Return the mesh of the processes that have the same number in their tensor-parallel groups as this one."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (num_processes(),)) if _mesh is None else _mesh["data"]


def sum_in_tensor_group(value: Tensor) -> Tensor:
    """Replace a value by its sum over the processes of the tensor-parallel group, and return it."""
    if _mesh is not None:
        distributed.all_reduce(value, group=_mesh.get_group("tensor"))
    return value


def joined_in_tensor_group(part: Tensor, dim: int) -> Tensor:
    """Return the parts of the processes of the tensor-parallel group, all of one shape, joined along a dimension."""
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(tensor_size())]
    distributed.all_gather(parts, part.contiguous(), group=_mesh.get_group("tensor"))
    return torch.cat(parts, dim)


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
    """Return the rows of every group's part of a batch, in the order of the groups (of one process without them).

    The gradients are those of the loss of the whole batch, if every process computes that loss and then averages its
    gradients with the others': a part's own are multiplied by the number of groups.

    Args:
        parts: tensors whose first dimension is the part's rows; groups may have different numbers of rows.
    """
    if data_size() == 1:
        return parts
    own = torch.tensor([len(parts[0])], device=parts[0].device)
    counts = [torch.empty_like(own) for _ in range(data_size())]
    distributed.all_gather(counts, own, group=_data_group())
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
        distributed.all_gather(parts, padded, group=_data_group())
        return torch.cat([own[:count] for own, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        rows: list[int] = context.rows  # type: ignore[attr-defined]
        first = sum(rows[: data_rank()])
        return gradient[first : first + rows[data_rank()]] * len(rows), None


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the groups, which have gradients for the same parameters."""
    if data_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    group = _data_group()
    # Gloo has no mean.
    sums: list[Any] = [distributed.all_reduce(gradient, group=group, async_op=True) for gradient in gradients]
    for pending, gradient in zip(sums, gradients, strict=True):
        pending.wait()
        gradient.div_(data_size())


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


def _data_group() -> Any:  # noqa: ANN401
    return None if _mesh is None else _mesh.get_group("data")


def _is_open() -> bool:
    return distributed.is_available() and distributed.is_initialized()
