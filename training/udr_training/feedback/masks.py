"""What each layer of a Transformers model may see of a pack, in the form that the model takes it.

A pack's own mask says which tokens are ancestors. Layers with local attention see fewer of them: those within a
window, or within the same chunk. In a pack both are a matter of depth, not of place: a query stands far behind its
instruction when other queries lie between them, and yet close to it.

Models take masks in one of three ways, their ``Style``; which one is right is tried, not known (see ``forward``).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udr_training.feedback.packing import Pack

# Transformers types its models and their configurations too loosely to be checked.
Model = Any

Style = Callable[[Model, Pack], AbstractContextManager[object]]
"""While the context is open, the model may run on the pack, with what it gives as ``attention_mask``."""


def styles(model: Model) -> list[Style]:
    """Return the ways in which a model may take its masks, the likelier first."""
    config = text_config(model)
    if config.model_type == "gpt_neo":
        return [_in_buffers]
    return [_by_layer_type, _alike] if getattr(config, "layer_types", None) else [_alike]


def smallest_window(model: Model) -> int | None:
    """Return how far the model's most short-sighted layer looks back, in tokens; None: to the beginning."""
    config = text_config(model)
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if config.model_type == "gpt_neo":
        windows.append(config.window_size)
    return min((window for window in windows if isinstance(window, int) and window > 0), default=None)


def text_config(model: Model) -> Any:  # noqa: ANN401
    """Return the configuration of the part of a model that reads text."""
    return getattr(model.config, "text_config", None) or model.config


@contextmanager
def _alike(model: Model, packed: Pack) -> Iterator[Tensor]:
    """One mask for all layers: Llama, GPT-2, and Mistral with its window."""
    window = getattr(text_config(model), "sliding_window", None)
    yield _additive(model, packed.visible & _near(packed, window))


@contextmanager
def _by_layer_type(model: Model, packed: Pack) -> Iterator[dict[str, Tensor]]:
    """A mask for each type of layer, by name: Gemma, Qwen and most later ones."""
    config = text_config(model)

    def visible(layer_type: str) -> NDArray[np.bool_]:
        if layer_type == "full_attention":
            return packed.visible
        if layer_type == "sliding_attention":
            return packed.visible & _near(packed, config.sliding_window)
        if layer_type == "chunked_attention":
            return packed.visible & _same_chunk(packed, config.attention_chunk_size)
        raise ValueError(f"layers of type {layer_type!r} know no mask")

    yield {name: _additive(model, visible(name)) for name in sorted(set(config.layer_types))}


@contextmanager
def _in_buffers(model: Model, packed: Pack) -> Iterator[Tensor]:
    """GPT-Neo: each layer keeps its own mask in a buffer, local layers one of places instead of depths."""
    config, device = text_config(model), next(model.parameters()).device
    layers = [module for module in model.modules() if hasattr(module, "attention_type") and hasattr(module, "bias")]
    before = [layer.bias for layer in layers]
    seen = {"global": packed.visible, "local": packed.visible & _near(packed, config.window_size)}
    try:
        for layer in layers:
            layer.bias = torch.from_numpy(seen[layer.attention_type])[None, None].to(device)
        # Without any mask the model would add its own, of places.
        yield torch.zeros((1, 1, len(packed), len(packed)), dtype=next(model.parameters()).dtype, device=device)
    finally:
        for layer, bias in zip(layers, before, strict=True):
            layer.bias = bias


def _near(packed: Pack, window: int | None) -> NDArray[np.bool_]:
    """Return which tokens are fewer than ``window`` positions apart."""
    if not window:
        return np.array(True)
    near: NDArray[np.bool_] = packed.positions[:, None] - packed.positions[None, :] < window
    return near


def _same_chunk(packed: Pack, size: int) -> NDArray[np.bool_]:
    chunks = packed.positions // size
    same: NDArray[np.bool_] = chunks[:, None] == chunks[None, :]
    return same


def _additive(model: Model, visible: NDArray[np.bool_]) -> Tensor:
    parameter = next(model.parameters())
    hidden = torch.from_numpy(~visible).to(parameter.device)
    mask = torch.zeros(hidden.shape, dtype=parameter.dtype, device=parameter.device)
    return mask.masked_fill_(hidden, torch.finfo(parameter.dtype).min)[None, None]
