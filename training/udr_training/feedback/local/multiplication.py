"""Multiplication of 16-bit weights in float32, for processors that lack the instructions and emulate them slowly."""

from functools import partial

from torch import Tensor, nn


def multiply_in_float32(model: nn.Module) -> None:
    """Have the linear layers of a model multiply in float32, and round what results to the weights' precision.

    Products of 16-bit numbers are exact in float32, and processors that have the instructions also add up in float32.
    So results are theirs but for the order of the sums. One layer's weights at a time are copied to 4 bytes each.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.forward = partial(_multiply, module)  # type: ignore[method-assign]


def _multiply(layer: nn.Linear, inputs: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.float()
    return nn.functional.linear(inputs.float(), layer.weight.float(), bias).to(layer.weight.dtype)
