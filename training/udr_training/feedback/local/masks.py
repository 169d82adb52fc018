"""What each layer of a Transformers model may see of a pack, in the form that the model takes it.

A pack says which tokens are ancestors. Layers with local attention see fewer of them: those within a window, or
within the same chunk. In a pack both are a matter of depth, not of place: a query stands far behind its instruction
when other queries lie between them, and yet close to it.

What a layer sees is one ``Rule``. It is drawn in one of two forms: ``dense``, a number for each pair of tokens, which
every model takes, or ``blocks`` for FlexAttention, which passes over the blocks that no token sees. Models take masks
in one of three ways, their ``Style``; which one is right is tried, not known (see ``self_check``).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from udr_training.feedback.packing import Pack

# Transformers types its models and their configurations too loosely to be checked.
Model = Any

Rule = Callable[[Tensor, Tensor], Tensor]
"""Says whether tokens see others: places, and places of shapes that broadcast to theirs, to bool."""

Form = Callable[[Model, Pack], AbstractContextManager[Callable[[Rule], object]]]
"""While the context is open, the model takes the masks that what it gives draws from rules."""

Style = Callable[[Model, Pack], AbstractContextManager[object]]
"""While the context is open, the model may run on the pack, with what it gives as ``attention_mask``."""


def styles(model: Model, form: Form) -> list[Style]:
    """Return the ways in which a model may take masks of a form, the likelier first; none where it takes no such."""
    config = text_config(model)
    if form is blocks and not getattr(model, "_supports_flex_attn", False):
        return []
    if config.model_type == "gpt_neo":
        return [_in_buffers]
    alike = partial(_alike, form=form)
    return [partial(_by_layer_type, form=form), alike] if getattr(config, "layer_types", None) else [alike]


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
def dense(model: Model, packed: Pack) -> Iterator[Callable[[Rule], Tensor]]:
    """A number for each pair of tokens, added to their attention: [1, 1, length, length] in the model's dtype."""
    parameter = next(model.parameters())

    def draw(rule: Rule) -> Tensor:
        hidden = _seen(model, packed, rule).logical_not_()
        mask = torch.zeros(hidden.shape, dtype=parameter.dtype, device=parameter.device)
        return mask.masked_fill_(hidden, torch.finfo(parameter.dtype).min)[None, None]

    yield draw


@contextmanager
def blocks(model: Model, packed: Pack) -> Iterator[Callable[[Rule], object]]:
    """Which blocks of tokens see which, for FlexAttention, which the model uses meanwhile."""
    before = text_config(model)._attn_implementation
    device = next(model.parameters()).device

    def draw(rule: Rule) -> object:
        return create_block_mask(
            lambda _batch, _head, of, other: rule(of, other), None, None, len(packed), len(packed), device=device
        )

    model.set_attn_implementation("flex_attention")
    try:
        yield draw
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _alike(model: Model, packed: Pack, form: Form) -> Iterator[object]:
    """One mask for all layers: Llama, GPT-2, and Mistral with its window."""
    with form(model, packed) as draw:
        yield draw(_within(model, packed, getattr(text_config(model), "sliding_window", None)))


@contextmanager
def _by_layer_type(model: Model, packed: Pack, form: Form) -> Iterator[dict[str, object]]:
    """A mask for each type of layer, by name: Gemma, Qwen and most later ones."""
    config = text_config(model)

    def rule(layer_type: str) -> Rule:
        if layer_type == "full_attention":
            return _ancestors(model, packed)
        if layer_type == "sliding_attention":
            return _within(model, packed, config.sliding_window)
        if layer_type == "chunked_attention":
            return _in_same_chunk(model, packed, config.attention_chunk_size)
        raise ValueError(f"layers of type {layer_type!r} know no mask")

    with form(model, packed) as draw:
        yield {name: draw(rule(name)) for name in sorted(set(config.layer_types))}


@contextmanager
def _in_buffers(model: Model, packed: Pack) -> Iterator[Tensor]:
    """GPT-Neo: each layer keeps its own mask in a buffer, local layers one of places instead of depths."""
    config, parameter = text_config(model), next(model.parameters())
    layers = [module for module in model.modules() if hasattr(module, "attention_type") and hasattr(module, "bias")]
    before = [layer.bias for layer in layers]
    rules = {"global": _ancestors(model, packed), "local": _within(model, packed, config.window_size)}
    seen = {name: _seen(model, packed, rule)[None, None] for name, rule in rules.items()}
    try:
        for layer in layers:
            layer.bias = seen[layer.attention_type]
        # Without any mask the model would add its own, of places.
        yield torch.zeros((1, 1, len(packed), len(packed)), dtype=parameter.dtype, device=parameter.device)
    finally:
        for layer, bias in zip(layers, before, strict=True):
            layer.bias = bias


def _seen(model: Model, packed: Pack, rule: Rule) -> Tensor:
    """Return what a rule says of all pairs of tokens: bool [length, length]; row i says what token i sees."""
    places = torch.arange(len(packed), device=next(model.parameters()).device)
    return rule(places[:, None], places[None])


def _ancestors(model: Model, packed: Pack) -> Rule:
    enter, leave = _beside(model, packed.enter), _beside(model, packed.leave)
    return lambda of, other: (enter[other] <= enter[of]) & (enter[of] < leave[other])


def _within(model: Model, packed: Pack, window: int | None) -> Rule:
    """Ancestors that are fewer than ``window`` positions away; None: all."""
    ancestors, depths = _ancestors(model, packed), _beside(model, packed.positions)
    return (lambda of, other: ancestors(of, other) & (depths[of] - depths[other] < window)) if window else ancestors


def _in_same_chunk(model: Model, packed: Pack, size: int) -> Rule:
    ancestors, chunks = _ancestors(model, packed), _beside(model, packed.positions // size)
    return lambda of, other: ancestors(of, other) & (chunks[of] == chunks[other])


def _beside(model: Model, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(next(model.parameters()).device)
