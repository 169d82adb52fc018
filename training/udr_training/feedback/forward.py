"""Options' log-likelihoods from a Transformers model: packed, plain, and the check that both are the same."""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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

_PLACES = 64
"""Predictions whose logits are held at a time; each is as wide as the vocabulary."""

# What a model raises that knows nothing of packs.
_UNFIT = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)

_LONGEST_CHECK = 2048
"""A window longer than this is not tried at load: that would take longer than it ever saves."""


Inputs = Mapping[str, object]

Reading = Callable[[Model, Inputs, Tensor], Iterator[Tensor]]
"""Runs the model on its inputs and yields the logits [at most ``_PLACES``, vocabulary] at the places asked for."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model takes packs.

    Attributes:
        style: how it takes its masks.
        reading: how its logits are read.
        longest: the longest prompt that may be packed, in tokens.
    """

    style: Style
    reading: Reading
    longest: int


@torch.inference_mode()
def packed_log_likelihoods(model: Model, packed: Pack, packing: Packing) -> list[NDArray[np.float64]]:
    """Return the options' log-likelihoods of a pack's prompts, one array [num_options] a prompt.

    Logits are computed only where an option's token is predicted, a few places at a time, so that memory grows with
    neither the prompt nor the number of options times the vocabulary.
    """
    device = next(model.parameters()).device
    # An edge is a token predicted at a place; edges in the order of their places go by with the places' logits.
    order = np.argsort(packed.sources, kind="stable")
    places, counts = np.unique(packed.sources, return_counts=True)
    targets = torch.from_numpy(packed.targets[order]).to(device)
    rows = torch.from_numpy(np.repeat(np.arange(len(places)), counts)).to(device)
    ends = np.cumsum(counts)
    chosen = np.empty(len(order), dtype=np.float32)
    with packing.style(model, packed) as mask:
        inputs = {
            "input_ids": torch.from_numpy(packed.tokens)[None].to(device),
            "position_ids": torch.from_numpy(packed.positions)[None].to(device),
            "attention_mask": mask,
            "use_cache": False,
        }
        chunks = packing.reading(model, inputs, torch.from_numpy(places).to(device))
        first, edge = 0, 0
        for logits in chunks:
            last = int(ends[first + len(logits) - 1])
            own = slice(edge, last)
            # Not logsumexp: in fp32 it is off by 6e-6 a token over a large vocabulary, always the same way.
            logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            values = logs[rows[own] - first, targets[own]]
            chosen[order[own]] = values.cpu().numpy()
            first, edge = first + len(logits), last
    return packed.log_likelihoods(chosen)


def _by_head(model: Model, inputs: Inputs, places: Tensor) -> Iterator[Tensor]:
    """The model's body first, then its head where it is needed: right where nothing follows the head."""
    hidden: Tensor = model.base_model(**inputs).last_hidden_state[0, places]
    for chunk in torch.split(hidden, _PLACES):
        yield model.get_output_embeddings()(chunk)


def _by_model(model: Model, inputs: Inputs, places: Tensor) -> Iterator[Tensor]:
    """As the model itself forms its logits, scaled or capped: right for all, all places at once."""
    logits = model(**inputs, logits_to_keep=places).logits[0]
    if len(logits) != len(places):
        raise ValueError(f"asked for the logits of {len(places)} places, it gives {len(logits)}")
    yield from torch.split(logits, _PLACES)


@torch.inference_mode()
def _readings(model: Model) -> list[Reading]:
    """Return the ways in which a model's logits may be read, the cheaper first.

    Whether anything follows the head is tried apart from the packing: both sides are the same multiplications, so
    they agree far closer than packed and plain scores do in 16 bits.
    """
    ids = torch.arange(8, device=next(model.parameters()).device)[None] % model.get_input_embeddings().num_embeddings
    logits = model(input_ids=ids, use_cache=False).logits[0]
    try:
        (read,) = _by_head(model, {"input_ids": ids, "use_cache": False}, torch.arange(8, device=ids.device))
    except _UNFIT:
        return [_by_model]
    return [_by_head, _by_model] if torch.allclose(read, logits, rtol=1e-2, atol=1e-2) else [_by_model]


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


def exact_packing(model: Model, name: str, pack_tokens: int, context: int) -> Packing | None:
    """Find a way of packing by which a model's scores are its plain ones.

    Made-up prompts are scored both ways: a full pack, and where the model has local attention a prompt that is
    longer than its smallest window.

    Args:
        model: a causal language model.
        name: for the notice.
        pack_tokens: tokens a pack.
        context: the longest sequence the model takes.

    Returns:
        The first way that is exact; None where there is none.
    """
    window = smallest_window(model)
    longer = window + 16 if window is not None and window + 16 <= min(context, _LONGEST_CHECK) else None
    prompts = _made_up(model.get_input_embeddings().num_embeddings, pack_tokens, context, longer)
    plain = np.concatenate(plain_log_likelihoods(model, prompts, rows=3))
    tolerance = _TOLERANCE[next(model.parameters()).dtype]
    found = []
    longest = context if window is None or longer is not None else window
    for style, reading in itertools.product(styles(model), _readings(model)):
        packing = Packing(style, reading, longest)
        try:
            packed = np.concatenate(packed_log_likelihoods(model, pack(prompts), packing))
        except _UNFIT as error:
            found.append(f"it does not take packed prompts ({error})")
            continue
        worst = float(np.abs(packed - plain).max())
        if worst <= tolerance:
            return packing
        found.append(f"packed scores are off by {worst:.2g}")
    _LOG.warning("%s: %s; scoring each prompt alone, slower", name, "; ".join(found))
    return None


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
