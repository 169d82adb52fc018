"""What each layer of a Transformers model may attend to in a pack, in the form that the model takes.

A pack says which tokens are ancestors. Layers with local attention see fewer of them: those within a window, or
within the same chunk. In a pack both depend on depth, not on position: a query is far from its instruction if other
queries lie between them, but its depth is close.

What a layer sees is a ``Rule``. It takes one of two forms: ``dense``, a number per pair of tokens, which every model
takes, or ``blocks`` for FlexAttention, which skips the blocks that no token sees. Models take masks in one of three
ways, their ``MaskStyle``; ``self_check`` finds out which one is exact.
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

# Compiled versions of FlexAttention. Each rule needs three, see ``self_check``; beyond torch's own limit of 8, a second
# model would run without compilation, and torch would only log a warning.
_COMPILED = 64

# Transformers types its models and their configurations too loosely to be checked.
Model = Any

Rule = Callable[[Tensor, Tensor], Tensor]
"""Returns whether tokens at some positions see tokens at others; the shapes broadcast, to bool."""

Form = Callable[[Model, Pack], AbstractContextManager[Callable[[Rule], object]]]
"""A context in which the model takes the masks that the yielded function makes from rules."""

MaskStyle = Callable[[Model, Pack], AbstractContextManager[object]]
"""A context in which the model may run on the pack, with the yielded value as ``attention_mask``."""


def styles(model: Model, form: Form) -> list[MaskStyle]:
    """Return the ways in which a model may take masks of a form, the likeliest first; empty if it takes none."""
    config = text_config(model)
    if form is blocks and not getattr(model, "_supports_flex_attn", False):
        return []
    if config.model_type == "gpt_neo":
        return [_in_buffers]
    alike = partial(_alike, form=form)
    return [partial(_by_layer_type, form=form), alike] if getattr(config, "layer_types", None) else [alike]


def smallest_window(model: Model) -> int | None:
    """Return the smallest attention window of the model's layers, in tokens; None if all layers see everything."""
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
    """A number per pair of tokens, added to their attention: [1, 1, length, length] in the model's dtype."""
    parameter = next(model.parameters())

    def mask_of(rule: Rule) -> Tensor:
        hidden = _visible(model, packed, rule).logical_not_()
        mask = torch.zeros(hidden.shape, dtype=parameter.dtype, device=parameter.device)
        return mask.masked_fill_(hidden, torch.finfo(parameter.dtype).min)[None, None]

    yield mask_of


@contextmanager
def blocks(model: Model, packed: Pack) -> Iterator[Callable[[Rule], object]]:
    """Which blocks of tokens see which, for FlexAttention, which the model uses meanwhile."""
    before = text_config(model)._attn_implementation
    device = next(model.parameters()).device

    def mask_of(rule: Rule) -> object:
        return create_block_mask(
            lambda _batch, _head, query, key: rule(query, key), None, None, len(packed), len(packed), device=device
        )

    model.set_attn_implementation("flex_attention")
    try:
        # Held for one thread, and only while the model runs. torch's types do not know ``patch``.
        with torch.compiler.config.patch(recompile_limit=_COMPILED):  # type: ignore[attr-defined]
            yield mask_of
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _alike(model: Model, packed: Pack, form: Form) -> Iterator[object]:
    """One mask for all layers: Llama, GPT-2, and Mistral with its window."""
    with form(model, packed) as mask_of:
        yield mask_of(_within(model, packed, getattr(text_config(model), "sliding_window", None)))


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
        raise ValueError(f"no mask is known for layers of type {layer_type!r}")

    with form(model, packed) as mask_of:
        yield {name: mask_of(rule(name)) for name in sorted(set(config.layer_types))}


@contextmanager
def _in_buffers(model: Model, packed: Pack) -> Iterator[Tensor]:
    """GPT-Neo: each layer keeps its own mask in a buffer; those of local layers go by position, not by depth."""
    config, parameter = text_config(model), next(model.parameters())
    layers = [module for module in model.modules() if hasattr(module, "attention_type") and hasattr(module, "bias")]
    before = [layer.bias for layer in layers]
    rules = {"global": _ancestors(model, packed), "local": _within(model, packed, config.window_size)}
    visible = {name: _visible(model, packed, rule)[None, None] for name, rule in rules.items()}
    try:
        for layer in layers:
            layer.bias = visible[layer.attention_type]
        # Without any mask the model would add its own, by position.
        yield torch.zeros((1, 1, len(packed), len(packed)), dtype=parameter.dtype, device=parameter.device)
    finally:
        for layer, bias in zip(layers, before, strict=True):
            layer.bias = bias


def _visible(model: Model, packed: Pack, rule: Rule) -> Tensor:
    """Return a rule's value for all pairs of tokens: bool [length, length]; row i is what token i sees."""
    positions = torch.arange(len(packed), device=next(model.parameters()).device)
    return rule(positions[:, None], positions[None])


def _ancestors(model: Model, packed: Pack) -> Rule:
    enter, leave = _on_device(model, packed.enter), _on_device(model, packed.leave)
    return lambda query, key: (enter[key] <= enter[query]) & (enter[query] < leave[key])


def _within(model: Model, packed: Pack, window: int | None) -> Rule:
    """Ancestors less than ``window`` deep away; None: all."""
    ancestors, depths = _ancestors(model, packed), _on_device(model, packed.positions)
    return (lambda query, key: ancestors(query, key) & (depths[query] - depths[key] < window)) if window else ancestors


def _in_same_chunk(model: Model, packed: Pack, size: int) -> Rule:
    ancestors, chunks = _ancestors(model, packed), _on_device(model, packed.positions // size)
    return lambda query, key: ancestors(query, key) & (chunks[query] == chunks[key])


def _on_device(model: Model, values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values).to(next(model.parameters()).device)
