"""Options' log-likelihoods from a Transformers model: packed, plain, and the check that both are the same."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udr_training.feedback.masks import Model, Style, smallest_window, styles
from udr_training.feedback.packing import Pack, Prompt, Tokens, pack

_LOG = logging.getLogger(__name__)

# Packed and plain scores may differ by rounding only; far less than any score is read to.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}

_ROWS = 8
"""Sequences a forward pass, unpacked."""

_PLACES = 128
"""Predictions whose log-probabilities are held in fp32 at a time; each is as wide as the vocabulary."""

_LONGEST_CHECK = 2048
"""A window longer than this is not tried at load: that would take longer than it ever saves."""


@torch.inference_mode()
def packed_log_likelihoods(model: Model, packed: Pack, style: Style) -> list[NDArray[np.float64]]:
    """Return the options' log-likelihoods of a pack's prompts, one array [num_options] a prompt.

    Logits are computed only where an option's token is predicted.
    """
    device = next(model.parameters()).device
    places, rows = np.unique(packed.sources, return_inverse=True)
    with style(model, packed) as mask:
        logits: Tensor = model(
            input_ids=torch.from_numpy(packed.tokens)[None].to(device),
            position_ids=torch.from_numpy(packed.positions)[None].to(device),
            attention_mask=mask,
            logits_to_keep=torch.from_numpy(places).to(device),
            use_cache=False,
        ).logits[0]
    normaliser = torch.cat([chunk.float().logsumexp(dim=-1) for chunk in torch.split(logits, _PLACES)])
    at = torch.from_numpy(rows).to(device)
    chosen = logits[at, torch.from_numpy(packed.targets).to(device)].float() - normaliser[at]
    return packed.log_likelihoods(chosen.cpu().numpy())


@torch.inference_mode()
def plain_log_likelihoods(model: Model, prompts: Sequence[Prompt], rows: int = _ROWS) -> list[NDArray[np.float64]]:
    """Return the same, from a padded row for each prompt and option: slow, and right for every model."""
    sequences = [(sum(prompt.parts, ()), option) for prompt in prompts for option in prompt.options]
    sums: list[float] = []
    for first in range(0, len(sequences), rows):
        sums += _rows(model, sequences[first : first + rows])
    flat = iter(sums)
    return [np.array([next(flat) for _ in prompt.options]) for prompt in prompts]


def _rows(model: Model, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
    device = next(model.parameters()).device
    width = max(len(context) + len(option) - 1 for context, option in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (context, option) in enumerate(sequences):
        inputs = (*context, *option[:-1])
        ids[row, : len(inputs)] = torch.tensor(inputs)
        mask[row, : len(inputs)] = 1
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    sums = []
    for row, (context, option) in enumerate(sequences):
        predicted = logits[row, len(context) - 1 : len(context) + len(option) - 1].float()
        logs = torch.log_softmax(predicted, dim=-1)
        sums.append(float(logs[torch.arange(len(option)), torch.tensor(option)].double().sum()))
    return sums


def exact_style(model: Model, name: str, pack_tokens: int, context: int) -> tuple[Style | None, int]:
    """Find the way of masking by which a model's packed scores are its plain ones.

    Made-up prompts are scored both ways: a full pack, and where the model has local attention a prompt that is
    longer than its smallest window.

    Args:
        model: a causal language model.
        name: for the notice.
        pack_tokens: tokens a pack.
        context: the longest sequence the model takes.

    Returns:
        The style, None where no style is exact; and the longest prompt that may be packed.
    """
    window = smallest_window(model)
    longer = window + 16 if window is not None and window + 16 <= min(context, _LONGEST_CHECK) else None
    prompts = _made_up(model.get_input_embeddings().num_embeddings, pack_tokens, context, longer)
    plain = np.concatenate(plain_log_likelihoods(model, prompts, rows=3))
    tolerance = _TOLERANCE[next(model.parameters()).dtype]
    found = []
    for style in styles(model):
        try:
            packed = np.concatenate(packed_log_likelihoods(model, pack(prompts), style))
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            found.append(f"it does not take packed prompts ({error})")
            continue
        worst = float(np.abs(packed - plain).max())
        if worst <= tolerance:
            return style, context if window is None or longer is not None else window
        found.append(f"packed scores are off by {worst:.2g}")
    _LOG.warning("%s: %s; scoring each prompt alone, slower", name, "; ".join(found))
    return None, 0


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
