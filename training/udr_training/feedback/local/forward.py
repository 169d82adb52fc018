"""Options' log-likelihoods from a Transformers model: packed, and plain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udr_training.feedback.local.masks import Model, Style
from udr_training.feedback.packing import Pack, Prompt, Tokens

_ROWS = 8
"""Sequences a forward pass, unpacked."""

_PLACES = 64
"""Predictions whose logits are held at a time; each is as wide as the vocabulary."""

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


def by_head(model: Model, inputs: Inputs, places: Tensor) -> Iterator[Tensor]:
    """The model's body first, then its head where it is needed: right where nothing follows the head."""
    hidden: Tensor = model.base_model(**inputs).last_hidden_state[0, places]
    for chunk in torch.split(hidden, _PLACES):
        yield model.get_output_embeddings()(chunk)


def by_model(model: Model, inputs: Inputs, places: Tensor) -> Iterator[Tensor]:
    """As the model itself forms its logits, scaled or capped: right for all, all places at once."""
    logits = model(**inputs, logits_to_keep=places).logits[0]
    if len(logits) != len(places):
        raise ValueError(f"asked for the logits of {len(places)} places, it gives {len(logits)}")
    yield from torch.split(logits, _PLACES)


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
