"""Tensor parallelism: the processes of a group each hold a part of most weights, and compute each layer together.

Transformers' plan for a model says how each layer is split (Shoeybi et al. 2019, "Megatron-LM"): attention and the
feed-forward part start with layers that are split by outputs, and end with one that is split by inputs, after which the
group sums. The backward pass sums before the first ones. Each process computes the rest, such as norms, for itself.

The parts are plain tensors. Transformers' own hooks make them DTensors, which torch's optimizers and norms of gradients
do not mix with the other weights; and they sum the gradients of norms again at every backward pass of a step, of which
a gradient cache has many.
"""

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers import PreTrainedModel

from udr.errors import ConfigError
from udr_training.losses import sum_in_tensor_group, tensor_rank, tensor_size

_PARTIAL = "replicated_with_grad_allreduce"
_DIMENSIONS = {"colwise": 0, "rowwise": 1, "embedding_rowwise": 1}
"""Of a weight that is split. Embeddings are split by width, since the number of tokens often has no divisor."""


def check_plan(model: nn.Module, start: str, size: int) -> None:
    """Raise a ``ConfigError`` if groups of ``size`` processes cannot train a model, called ``start``."""
    transformers = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    kind = " and ".join(sorted({module.config.model_type for module in transformers})) or "no transformer"
    plan, styles = _plan(model), {style for module in transformers for style in module.tp_plan.values()}
    if not plan:
        raise ConfigError(
            f"train.tensor_parallel needs Transformers' plan of how to split a model, as there is for qwen3, llama, "
            f"mistral and gemma; {start!r} is {kind}, which has none; split its weights by train.fsdp instead"
        )
    if unknown := styles - {*_DIMENSIONS, _PARTIAL}:
        raise ConfigError(
            f"train.tensor_parallel does not know {min(unknown)!r}, a way to split layers in Transformers' plan for "
            f"{kind} ({start!r}); split its weights by train.fsdp instead"
        )
    heads = ("num_attention_heads", "num_key_value_heads")
    counts = [(getattr(module.config, name, None), name) for module in transformers for name in heads]
    for module, style in plan.items():
        if style != _PARTIAL:
            counts.append((module.weight.shape[_DIMENSIONS[style]], "width of a layer"))
    for count, name in counts:
        if count is not None and count % size:
            raise ConfigError(f"train.tensor_parallel must divide the {name} of {start!r}, {count}; found {size}")


def split_layers(model: nn.Module) -> list[nn.Module]:
    """Keep this process's part of each layer's weights.

    Returns:
        Modules that are whole, but see a part of the inputs: their gradients have to be summed in the group.
    """
    plan = _plan(model)
    for layer, style in plan.items():
        if style == _PARTIAL:
            continue
        _keep(layer, "weight", _DIMENSIONS[style])
        if style == "colwise":
            _keep(layer, "bias", 0)
            layer.register_forward_pre_hook(_same_inputs)
        elif style == "rowwise":
            layer.forward = partial(_sum_of_products, layer)
        else:
            layer.register_forward_hook(_all_columns)
    return [layer for layer, style in plan.items() if style == _PARTIAL]


def _plan(model: nn.Module) -> dict[Any, str]:
    """Return the style of each layer that Transformers' plan of a transformer in the model names."""
    return {
        layer: style
        for transformer in model.modules()
        if isinstance(transformer, PreTrainedModel)
        for name, layer in transformer.named_modules()
        # As in the plan: layers.*.mlp.up_proj
        if (style := transformer.tp_plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", name)))
    }


def _keep(layer: nn.Module, name: str, dim: int) -> None:
    whole = getattr(layer, name, None)
    if whole is not None:
        part = whole.detach().chunk(tensor_size(), dim)[tensor_rank()]
        # Without the memory of the whole.
        setattr(layer, name, nn.Parameter(part.clone(), whole.requires_grad))


def _same_inputs(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    share: Any = _Share
    return (share.apply(inputs[0]), *inputs[1:])


def _sum_of_products(layer: nn.Linear, inputs: Tensor) -> Tensor:
    outputs: Tensor = _summed(functional.linear(inputs, layer.weight))
    return outputs if layer.bias is None else outputs + layer.bias.to(outputs.dtype)


def _all_columns(layer: nn.Module, inputs: object, columns: Tensor) -> Tensor:
    width, member = columns.shape[-1], tensor_rank()
    return _summed(functional.pad(columns, (width * member, width * (tensor_size() - 1 - member))))


def _summed(part: Tensor) -> Tensor:
    add: Any = _Sum
    summed: Tensor = add.apply(part)
    return summed


class _Sum(torch.autograd.Function):
    """The sum over a group, whose processes all have its gradient."""

    @staticmethod
    def forward(context: FunctionCtx, part: Tensor) -> Tensor:
        return sum_in_tensor_group(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient


class _Share(torch.autograd.Function):
    """What all processes of a group have, each with a part of its gradient."""

    @staticmethod
    def forward(context: FunctionCtx, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        return sum_in_tensor_group(gradient.clone(memory_format=torch.contiguous_format))
