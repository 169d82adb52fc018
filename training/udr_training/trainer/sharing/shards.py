"""A process's part of a model's weights: by torch's FSDP2, by tensor parallelism, or by both."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, distributed, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from udr_training.losses import (
    average_gradients,
    data_mesh,
    joined_in_tensor_group,
    process_number,
    sum_in_tensor_group,
    tensor_rank,
    tensor_size,
)
from udr_training.trainer.sharing.tensor_parallel import split_layers


class Shards:
    """This process's part of a model's weights, and so of their gradients and of the optimizer's state.

    Args:
        model: the model, which is changed.
        fsdp: split the weights, or what is left of them in a tensor-parallel group, and gather a layer's while it
            computes.

    Attributes:
        whole: a copy of the model as it was, without memory for its weights but while they are gathered.
    """

    def __init__(self, model: Any, *, fsdp: bool) -> None:  # noqa: ANN401
        self._model, self._fsdp = model, fsdp
        weights = {id(weight): nn.Parameter(weight.to("meta"), weight.requires_grad) for weight in model.parameters()}
        self.whole: nn.Module = deepcopy(model, weights)
        self._partial = split_layers(model) if tensor_size() > 1 else []
        if fsdp:
            _shard(model)
        self._shapes = {
            own: whole.shape for own, whole in zip(model.parameters(), self.whole.parameters(), strict=True)
        }

    def finish_gradients(self) -> None:
        """Complete the gradients of a backward pass; all processes call this."""
        for module in self._partial:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    sum_in_tensor_group(_local(parameter.grad))
        if not self._fsdp:
            average_gradients(self._model.parameters())

    def clip_gradients(self, parameters: Iterable[Tensor], most: float) -> Tensor:
        """Scale all gradients so that their norm, as a whole, is at most ``most``; return what it was."""
        square = torch.zeros((), device=self._model.device)
        for parameter, shape in self._shapes.items():
            if parameter.grad is not None:
                own = _local(parameter.grad).float().square().sum()
                # What every process of the group has counts once.
                square += own / tensor_size() if parameter.shape == shape else own
        if self._fsdp:
            distributed.all_reduce(square)
        norm = (square if self._fsdp else sum_in_tensor_group(square)).sqrt()
        nn.utils.clip_grads_with_norm_(self._shapes, most, norm)
        return norm

    @torch.no_grad()
    def gather(self) -> nn.Module:
        """Return the whole model, of which only the first process has the weights; all processes call this."""
        wholes = self.whole.state_dict()
        weights = {name: _full(own, wholes[name].shape) for name, own in self._model.state_dict().items()}
        if process_number() == 0:
            self.whole.load_state_dict(weights, assign=True)
        return self.whole

    @torch.no_grad()
    def scatter(self) -> None:
        """Take this process's part of the whole model, whose weights the first process has; all processes call this."""
        wholes = self.whole.state_dict()
        for name, own in self._model.state_dict().items():
            first = process_number() == 0
            whole = wholes[name].to(own.device) if first else torch.empty_like(wholes[name], device=own.device)
            distributed.broadcast(whole, 0)
            own.copy_(_part(whole, own))

    def full_state(self, optimizer: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return an optimizer's state as without shards, which only the first process has; all processes call this."""
        result: dict[str, Any] = optimizer.state_dict()
        weights = _weights(optimizer)
        result["state"] = {
            number: {name: _full(value, self._shapes[weights[number]]) for name, value in state.items()}
            for number, state in result["state"].items()
        }
        return result

    def load_state(self, optimizer: Any, full: dict[str, Any]) -> None:  # noqa: ANN401
        """Give an optimizer this process's part of such a state."""
        weights = _weights(optimizer)
        for number, state in full["state"].items():
            own = weights[number]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == self._shapes[own]:
                    state[name] = _part(value, own)
        optimizer.load_state_dict(full)


def _shard(model: Any) -> None:  # noqa: ANN401
    """Have a layer's weights gathered while it computes, those outside of layers for the whole pass (FSDP2).

    So all processes have to make the same passes. It replaces Accelerate's, which shards nothing on CPUs, in silence.
    """
    from torch.distributed.fsdp import fully_shard

    model.register_forward_hook(_plain)
    mesh = data_mesh(model.device.type)
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    # The inner ones first.
    for module in reversed(layers):
        fully_shard(module, mesh=mesh)
    # By default, the rest would stay whole between passes.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    # Memory that the first pass allocates belongs to inference alone if it validates.
    for module in (*layers, model):
        module.unshard()
        module.reshard()


def _plain(model: nn.Module, arguments: object, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return outputs in a dict, as FSDP finds none in a ``BatchEncoding``, and without views, of which it warns."""
    return {
        name: value.clone() if getattr(value, "_base", None) is not None else value for name, value in outputs.items()
    }


def _weights(optimizer: Any) -> list[Tensor]:  # noqa: ANN401
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _full(value: object, shape: torch.Size) -> object:
    """Return a weight, or a value of each of its elements, as a whole of ``shape``."""
    from torch.distributed.tensor import DTensor

    if not isinstance(value, Tensor):
        return value
    if isinstance(value, DTensor):
        value = value.full_tensor()
    dim = _split_dim(value.shape, shape)
    whole = value if dim is None else joined_in_tensor_group(value, dim)
    return whole.cpu() if process_number() == 0 else None


def _part(whole: Tensor, own: Tensor) -> Tensor:
    """Return this process's part of a whole, as it has a part of a weight."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    dim = _split_dim(own.shape, whole.shape)
    part = whole if dim is None else whole.chunk(tensor_size(), dim)[tensor_rank()].clone()
    if not isinstance(own, DTensor):
        return part
    return distribute_tensor(part, own.device_mesh, own.placements, src_data_rank=None)


def _split_dim(part: torch.Size, whole: torch.Size) -> int | None:
    return next((dim for dim, (own, all) in enumerate(zip(part, whole, strict=False)) if own != all), None)


def _local(value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return value.to_local() if isinstance(value, DTensor) else value
