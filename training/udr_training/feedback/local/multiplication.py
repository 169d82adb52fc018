"""Multiplication of 16-bit weights in float32, for processors that lack the instructions and emulate them slowly."""

from functools import partial

import torch
from torch import Tensor, nn


def multiply_in_float32(model: nn.Module) -> None:
    """Have the linear layers of a model multiply in float32, and round the results to the weights' precision.

    Products of 16-bit numbers are exact in float32, and processors that have the instructions also add up in float32.
    So the results equal theirs, except for the order of summation. One layer's weights at a time are copied to 4 bytes
    each. Layers that compute something else, as quantized ones do, stay as they are.
    """
    for module in model.modules():
        plain = type(module).forward is nn.Linear.forward and "forward" not in vars(module)
        if isinstance(module, nn.Linear) and plain and module.weight.dtype in (torch.bfloat16, torch.float16):
            module.forward = partial(_multiply, module)  # type: ignore[method-assign]


def _multiply(layer: nn.Linear, inputs: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.float()
    return nn.functional.linear(inputs.float(), layer.weight.float(), bias).to(layer.weight.dtype)
