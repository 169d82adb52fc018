"""Which way of packing is exact for a model: tried at load, on made-up prompts, beside plain scoring.

The ways differ in the masks (see ``masks``) and in how logits are read (see ``forward``). None is taken on trust: a
model whose packed scores are not its plain ones is scored plainly.
"""

import itertools
import logging
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from udr.errors import reason
from udr_training.feedback.local.forward import (
    Packing,
    Reading,
    by_head,
    by_model,
    packed_log_likelihoods,
    plain_log_likelihoods,
)
from udr_training.feedback.local.masks import Form, Model, blocks, dense, smallest_window, styles
from udr_training.feedback.packing import Pack, Prompt, Tokens, pack

_LOG = logging.getLogger(__name__)

# Packed and plain scores may differ by rounding only; far less than any score is read to.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}

# What a model raises that knows nothing of packs.
_UNFIT = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, ImportError)

_LONGEST_CHECK = 2048
"""A window longer than this is not tried at load: that would take longer than it ever saves."""


def exact_packing(model: Model, name: str, pack_tokens: int, context: int, *, try_blocks: bool) -> Packing | None:
    """Find a way of packing by which a model's scores are its plain ones.

    Made-up prompts are scored both ways: a full pack, and where the model has local attention a prompt that is
    longer than its smallest window.

    Args:
        model: a causal language model.
        name: for the notice.
        pack_tokens: tokens a pack.
        context: the longest sequence the model takes.
        try_blocks: whether to try FlexAttention too, and to take it where it is faster.

    Returns:
        The first way that is exact, or the faster of two; None where there is none.
    """
    window = smallest_window(model)
    longer = window + 16 if window is not None and window + 16 <= min(context, _LONGEST_CHECK) else None
    prompts = _made_up(model.get_input_embeddings().num_embeddings, pack_tokens, context, longer)
    plain = plain_log_likelihoods(model, prompts, rows=3)
    longest = context if window is None or longer is not None else window

    def first_exact(form: Form) -> tuple[Packing | None, str]:
        found = []
        for style, reading in itertools.product(styles(model, form), _readings(model)):
            packing = Packing(style, reading, longest)
            wrong = _what_is_wrong(model, packing, prompts, plain)
            if wrong is None:
                return packing, ""
            found.append(wrong)
        return None, "; ".join(dict.fromkeys(found))

    packing, wrong = first_exact(dense)
    if packing is None:
        _LOG.warning("%s: %s; scoring each prompt alone, slower", name, wrong)
    if packing is None or not try_blocks:
        return packing
    blocked, wrong = first_exact(blocks)
    if blocked is None:
        _LOG.info("%s: packed without FlexAttention: %s", name, wrong or "the model has none")
        return packing
    return _faster(model, (packing, blocked), pack(prompts))


def _what_is_wrong(
    model: Model, packing: Packing, prompts: Sequence[Prompt], plain: Sequence[NDArray[np.float64]]
) -> str | None:
    """Say why a way of packing cannot be used; None where it is exact."""
    try:
        # One alone too: FlexAttention has another kernel for short packs.
        packed = [*_packed(model, packing, prompts), *_packed(model, packing, prompts[-1:])]
    except _UNFIT as error:
        return f"it does not take packed prompts ({reason(error)})"
    worst = float(np.abs(np.concatenate(packed) - np.concatenate([*plain, plain[-1]])).max())
    return None if worst <= _TOLERANCE[next(model.parameters()).dtype] else f"packed scores are off by {worst:.2g}"


def _packed(model: Model, packing: Packing, prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
    return packed_log_likelihoods(model, pack(prompts), packing)


def _faster(model: Model, ways: Sequence[Packing], packed: Pack) -> Packing:
    """Return the way that takes the shorter time for a pack, best of three in turn; all have run before."""

    def seconds(way: Packing) -> float:
        started = time.perf_counter()
        packed_log_likelihoods(model, packed, way)
        return time.perf_counter() - started

    rounds = [[seconds(way) for way in ways] for _ in range(3)]
    best = np.min(rounds, axis=0)
    return ways[int(best.argmin())]


@torch.inference_mode()
def _readings(model: Model) -> list[Reading]:
    """Return the ways in which a model's logits may be read, the cheaper first.

    Whether anything follows the head is tried apart from the packing: both sides are the same multiplications, so
    they agree far closer than packed and plain scores do in 16 bits.
    """
    ids = torch.arange(8, device=next(model.parameters()).device)[None] % model.get_input_embeddings().num_embeddings
    logits = model(input_ids=ids, use_cache=False).logits[0]
    try:
        (read,) = by_head(model, {"input_ids": ids, "use_cache": False}, torch.arange(8, device=ids.device))
    except _UNFIT:
        return [by_model]
    return [by_head, by_model] if torch.allclose(read, logits, rtol=1e-2, atol=1e-2) else [by_model]


def _made_up(vocabulary: int, pack_tokens: int, context: int, longer: int | None) -> list[Prompt]:
    generator = np.random.default_rng(0)

    def some(count: int) -> Tokens:
        return tuple(int(token) for token in generator.integers(vocabulary, size=count))

    root = some(4)
    lengths = [min(length, context // 2) for length in (pack_tokens // 4, pack_tokens // 8, 9)]
    prompts = [
        Prompt((root, some(length), some(3 + query)), (some(1), some(3), (*some(1), 1)))
        for length in lengths
        for query in range(2)
    ]
    # One shared demonstration, so that a query must not see the query before it.
    prompts[1] = Prompt((*prompts[0].parts[:2], some(5)), prompts[1].options)
    if longer is not None:
        prompts.append(Prompt((root, some(longer - 8), some(2)), (some(2),)))
    return prompts
