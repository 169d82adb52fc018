"""The pairs that ``feedback.py`` scores, the authors' padded batches, and the multiplications of each side."""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from measuring import seconds

from udr.data import Pool, open_collection, sample
from udr_training.feedback import Pair
from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Prompt, pack

BATCH, QUERIES, ROUNDS = 8, 16, 5


def load(arguments: argparse.Namespace, pack_tokens: int | None = None) -> CausalLM:
    return CausalLM.load(arguments.lm, arguments.device, arguments.dtype, pack_tokens)


def pool_of(arguments: argparse.Namespace, task: str) -> Pool:
    return open_collection(arguments.tasks, [task]).tasks[task].pool()


def groups(pool: Pool, task: str, count: int = ROUNDS) -> Iterator[list[Pair]]:
    """Yield demonstrations with 16 queries each; for generation, queries with targets of about 30 tokens."""
    rows = sample(pool.rows, None, 0)
    if task == "commongen":
        rows = sorted(rows, key=lambda row: abs(len(row.target.split()) - 26))[: count * (QUERIES + 1)]
    for start in range(0, count * (QUERIES + 1), QUERIES + 1):
        demonstration, *queries = rows[start : start + QUERIES + 1]
        yield [Pair(pool.task, query, demonstration) for query in queries]


@torch.inference_mode()
def padded(lm: CausalLM, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Score as the authors do: one row per demonstration, query and option, all logits, batches of 8."""
    model, device = lm.model, next(lm.model.parameters()).device
    rows = [(prompt.context, option) for prompt in prompts for option in prompt.options]
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number][0]) - len(rows[number][1]))
    sums = [0.0] * len(rows)
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        ids = [torch.tensor([*rows[number][0], *rows[number][1]]) for number in batch]
        inputs = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
        logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), inputs[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        for loss, number in zip(losses, batch, strict=True):
            start, length = len(rows[number][0]) - 1, len(rows[number][1])
            sums[number] = -float(loss[start : start + length].double().sum())
    flat = iter(sums)
    return [[next(flat) for _ in prompt.options] for prompt in prompts]


def costs(lm: CausalLM) -> tuple[int, int]:
    """Return the operations per token in the model's body, and those for the logits of one position."""
    embeddings = lm.model.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in lm.model.parameters()) - embeddings
    return 2 * body, 2 * lm.model.get_output_embeddings().weight.numel()


def padded_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations per pair if each option is a row, padded to its batch's longest, with all logits."""
    lengths = sorted((len(p.context) + len(option) for p in prompts for option in p.options), reverse=True)
    batches = [lengths[first : first + BATCH] for first in range(0, len(lengths), BATCH)]
    return sum(len(batch) * batch[0] for batch in batches) * sum(costs(lm)) / len(prompts)


def packed_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations per pair if shared tokens occur once, with logits only where they are read."""
    body, head = costs(lm)
    packs = [pack([prompts[number] for number in numbers]) for numbers in lm.plan(prompts)]
    return sum(len(tokens) * body + len(np.unique(tokens.sources)) * head for tokens in packs) / len(prompts)


def matrix_rate(lm: CausalLM) -> float:
    """Return the operations a second of large matrix products in the model's device and dtype."""
    weights = next(lm.model.parameters())
    # On a GPU, one product takes about as long as to start it and to wait for it.
    size, count = (2048, 1) if weights.device.type == "cpu" else (8192, 20)
    left, right = (torch.randn(size, size, device=weights.device, dtype=weights.dtype) for _ in range(2))

    def products() -> None:
        for _ in range(count):
            left @ right
        if weights.device.type == "cuda":
            torch.cuda.synchronize()

    products()
    return 2 * size**3 * count / min(seconds(products) for _ in range(5))
