"""Options' log-likelihoods from a Transformers model: packed, and plain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udr_training.feedback.local.masks import MaskStyle, Model
from udr_training.feedback.packing import Pack, Prompt, Tokens

Inputs = Mapping[str, object]

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")

LogitReader = Callable[[Model, Inputs, Tensor], Iterator[Tensor]]
"""Runs the model on its inputs and yields the logits at the given positions, chunk by chunk: [chunk, vocabulary]."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model takes masks, how its logits are read, and the longest prompt that can be packed, in tokens."""

    style: MaskStyle
    read_logits: LogitReader
    longest: int


@torch.inference_mode()
def packed_log_likelihoods(model: Model, packed: Pack, packing: Packing) -> list[NDArray[np.float64]]:
    """Return the options' log-likelihoods of a pack's prompts, one array [num_options] per prompt.

    Logits are computed only where an option's token is predicted, a few positions at a time, so that memory grows with
    neither the prompt nor the number of options times the vocabulary.
    """
    device = next(model.parameters()).device
    # Edges sorted by their sources, so that each chunk of logits serves a contiguous range of them.
    order = np.argsort(packed.sources, kind="stable")
    positions, counts = np.unique(packed.sources, return_counts=True)
    targets = torch.from_numpy(packed.targets[order]).to(device)
    rows = torch.from_numpy(np.repeat(np.arange(len(positions)), counts)).to(device)
    ends = np.cumsum(counts)
    log_probabilities = np.empty(len(order), dtype=np.float32)
    with packing.style(model, packed) as mask:
        inputs = {
            "input_ids": torch.from_numpy(packed.tokens)[None].to(device),
            "position_ids": torch.from_numpy(packed.positions)[None].to(device),
            "attention_mask": mask,
            "use_cache": False,
        }
        first, edge = 0, 0
        for logits in packing.read_logits(model, inputs, torch.from_numpy(positions).to(device)):
            last = int(ends[first + len(logits) - 1])
            edges = slice(edge, last)
            # Not logsumexp: in fp32 it is off by 6e-6 per token over a large vocabulary, always in the same direction.
            logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            log_probabilities[order[edges]] = logs[rows[edges] - first, targets[edges]].cpu().numpy()
            first, edge = first + len(logits), last
    return packed.log_likelihoods(log_probabilities)


def read_by_head(model: Model, inputs: Inputs, positions: Tensor, chunk: int = 64) -> Iterator[Tensor]:
    """Run the model's body, then its head at the positions: correct if nothing follows the head."""
    hidden: Tensor = model.base_model(**inputs).last_hidden_state[0, positions]
    for part in torch.split(hidden, chunk):
        yield model.get_output_embeddings()(part)


def read_by_model(model: Model, inputs: Inputs, positions: Tensor, chunk: int = 64) -> Iterator[Tensor]:
    """Take the model's own logits, which may be scaled or capped, at all positions at once: correct for all models."""
    logits = model(**inputs, logits_to_keep=positions).logits[0]
    if len(logits) != len(positions):
        raise ValueError(f"requested the logits of {len(positions)} positions, found {len(logits)}")
    yield from torch.split(logits, chunk)


@torch.inference_mode()
def plain_log_likelihoods(model: Model, prompts: Sequence[Prompt], rows: int = 8) -> list[NDArray[np.float64]]:
    """Return the same from padded sequences, ``rows`` at a time: slow, and correct for every model."""
    sequences = [(prompt.context, option) for prompt in prompts for option in prompt.options]
    sums: list[float] = []
    for first in range(0, len(sequences), rows):
        sums += _in_memory(sequences[first : first + rows], partial(_plain_sums, model))
    flat = iter(sums)
    return [np.array([next(flat) for _ in prompt.options]) for prompt in prompts]


def _plain_sums(model: Model, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[float]:
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


@torch.inference_mode()
def token_log_likelihoods(model: Model, texts: Sequence[Tokens], rows: int = 8) -> list[NDArray[np.float64]]:
    """Return the log-likelihood of each token of texts but the first, natural logarithm, [length - 1] per text.

    Texts of about the same length are read together, ``rows`` at a time.
    """
    results: dict[int, NDArray[np.float64]] = {}
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for first in range(0, len(order), rows):
        numbers = order[first : first + rows]
        together = _in_memory([texts[number] for number in numbers], partial(_token_logs, model))
        results |= dict(zip(numbers, together, strict=True))
    return [results[number] for number in range(len(texts))]


def _token_logs(model: Model, texts: Sequence[Tokens]) -> list[NDArray[np.float64]]:
    device = next(model.parameters()).device
    ids = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    results = []
    for row, text in enumerate(texts):
        targets = torch.tensor(text[1:], device=device)
        logs = torch.log_softmax(logits[row, : len(targets)], dim=-1, dtype=torch.float32)
        results.append(logs.gather(1, targets[:, None])[:, 0].double().cpu().numpy())
    return results


def _in_memory(rows: Sequence[_Row], compute: Callable[[Sequence[_Row]], list[_Result]]) -> list[_Result]:
    """Return the results of rows that are computed together, or in halves if memory runs out."""
    try:
        return compute(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    # Not while the error is handled, which keeps what was allocated.
    middle = len(rows) // 2
    return [*_in_memory(rows[:middle], compute), *_in_memory(rows[middle:], compute)]
