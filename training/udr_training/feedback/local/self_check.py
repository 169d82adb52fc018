"""Which way of packing is exact for a model: tried at load, on random prompts, against plain scoring.

The ways differ in the masks (see ``masks``) and in how logits are read (see ``forward``). A model whose packed scores
are not its plain scores is scored plainly.
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
    LogitReader,
    Packing,
    packed_log_likelihoods,
    plain_log_likelihoods,
    read_by_head,
    read_by_model,
)
from udr_training.feedback.local.masks import Form, Model, blocks, dense, smallest_window, styles
from udr_training.feedback.packing import Pack, Prompt, Tokens, pack

_LOG = logging.getLogger(__name__)

# Packed and plain scores may differ by rounding only: by this much, or by some steps of the precision, which are larger
# for larger scores.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
_STEPS = 3

# The prompts of each pack. FlexAttention has another kernel for short packs, and torch compiles it again, then for any
# length, when packs differ in length. So nothing is left to compile, for up to half a minute, when pairs are scored.
_PACKS = (slice(None), slice(-1, None), slice(2, None))

# The errors of models that cannot take packs.
_MODEL_ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, ImportError)


def exact_packing(
    model: Model, name: str, pack_tokens: int, context: int, *, try_blocks: bool, longest_check: int = 2048
) -> Packing | None:
    """Find a way of packing with which a model's scores equal its plain scores.

    Random prompts are scored both ways: in a pack of about half the size, in a smaller one, and one alone; for a model
    with local attention, one prompt is longer than its smallest window. The first exact way is returned; None if there
    is none.

    Args:
        model: a causal language model.
        name: its name, for log messages.
        pack_tokens: tokens per pack.
        context: the longest sequence of the model, in tokens.
        try_blocks: whether to try FlexAttention too, and to use it if it is faster.
        longest_check: a longer window is not checked, which would take longer than it saves; then only prompts within
            the window are packed.
    """
    window = smallest_window(model)
    longer = window + 16 if window is not None and window + 16 <= min(context, longest_check) else None
    prompts = _random_prompts(model.get_input_embeddings().num_embeddings, pack_tokens, context, longer)
    plain = plain_log_likelihoods(model, prompts, rows=3)
    longest = context if window is None or longer is not None else window

    def first_exact(form: Form) -> tuple[Packing | None, str]:
        problems = []
        for style, read_logits in itertools.product(styles(model, form), _logit_readers(model)):
            packing = Packing(style, read_logits, longest)
            problem = _problem(model, packing, prompts, plain)
            if problem is None:
                return packing, ""
            problems.append(problem)
        return None, "; ".join(dict.fromkeys(problems))

    packing, problem = first_exact(dense)
    if packing is None:
        _LOG.warning("%s: %s; each prompt is scored alone, which is slower", name, problem)
    if packing is None or not try_blocks:
        return packing
    blocked, problem = first_exact(blocks)
    if blocked is None:
        _LOG.info("%s: packed without FlexAttention: %s", name, problem or "the model does not support it")
        return packing
    return faster(model, (packing, blocked), pack(prompts))


def _problem(
    model: Model, packing: Packing, prompts: Sequence[Prompt], plain: Sequence[NDArray[np.float64]]
) -> str | None:
    """Return why a way of packing cannot be used; None if it is exact."""
    try:
        packed = [row for some in _PACKS for row in packed_log_likelihoods(model, pack(prompts[some]), packing)]
    except _MODEL_ERRORS as error:
        return f"the model cannot take packed prompts ({reason(error)})"
    expected = np.concatenate([row for some in _PACKS for row in plain[some]])
    difference, dtype = np.abs(np.concatenate(packed) - expected), next(model.parameters()).dtype
    allowed = np.maximum(_TOLERANCE[dtype], _STEPS * torch.finfo(dtype).eps * np.abs(expected))
    return None if np.all(difference <= allowed) else f"packed scores are off by {difference.max():.2g}"


def faster(model: Model, packings: Sequence[Packing], packed: Pack) -> Packing:
    """Return the way that takes the least time for a pack, best of three; all must have run before."""

    def seconds(packing: Packing) -> float:
        started = time.perf_counter()
        packed_log_likelihoods(model, packed, packing)
        return time.perf_counter() - started

    best = np.min([[seconds(packing) for packing in packings] for _ in range(3)], axis=0)
    return packings[int(best.argmin())]


@torch.inference_mode()
def _logit_readers(model: Model) -> list[LogitReader]:
    """Return the ways in which a model's logits may be read, the cheaper first.

    Whether anything follows the head is tested apart from packing: both sides are the same multiplications, so in 16
    bits they agree far more closely than packed and plain scores do.
    """
    ids = torch.arange(8, device=next(model.parameters()).device)[None] % model.get_input_embeddings().num_embeddings
    logits = model(input_ids=ids, use_cache=False).logits[0]
    try:
        (by_head,) = read_by_head(model, {"input_ids": ids, "use_cache": False}, torch.arange(8, device=ids.device))
    except _MODEL_ERRORS:
        return [read_by_model]
    return [read_by_head, read_by_model] if torch.allclose(by_head, logits, rtol=1e-2, atol=1e-2) else [read_by_model]


def _random_prompts(vocabulary: int, pack_tokens: int, context: int, longer: int | None) -> list[Prompt]:
    generator = np.random.default_rng(0)

    def tokens(count: int) -> Tokens:
        return tuple(int(token) for token in generator.integers(vocabulary, size=count))

    root = tokens(4)
    lengths = [min(length, context // 2) for length in (pack_tokens // 4, pack_tokens // 8, 9)]
    prompts = [
        Prompt((root, tokens(length), tokens(3 + query)), (tokens(1), tokens(3), (*tokens(1), 1)))
        for length in lengths
        for query in range(2)
    ]
    # One shared demonstration, so that a query must not see the query before it.
    prompts[1] = Prompt((*prompts[0].parts[:2], tokens(5)), prompts[1].options)
    if longer is not None:
        prompts.append(Prompt((root, tokens(longer - 8), tokens(2)), (tokens(2),)))
    return prompts
