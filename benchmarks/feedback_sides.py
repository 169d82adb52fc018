"""The two sides of ``feedback.py``: the authors' padded batches, and what each side must multiply."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Prompt, pack

ROWS = 8


@torch.inference_mode()
def padded(lm: CausalLM, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Score as the authors do: a row for each demonstration, query and option, all logits, batches of 8."""
    model, device = lm.model, next(lm.model.parameters()).device
    rows = [(prompt.context, option) for prompt in prompts for option in prompt.options]
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place][0]) - len(rows[place][1]))
    sums = [0.0] * len(rows)
    for first in range(0, len(order), ROWS):
        batch = order[first : first + ROWS]
        ids = [torch.tensor([*rows[place][0], *rows[place][1]]) for place in batch]
        inputs = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
        logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), inputs[:, 1:].flatten(), reduction="none"
        ).view(len(batch), -1)
        for number, place in enumerate(batch):
            start, end = len(rows[place][0]) - 1, len(rows[place][0]) + len(rows[place][1]) - 1
            sums[place] = -float(losses[number, start:end].double().sum())
    flat = iter(sums)
    return [[next(flat) for _ in prompt.options] for prompt in prompts]


def costs(lm: CausalLM) -> tuple[int, int]:
    """Return the operations that a token takes in the model's body, and those of one place's logits."""
    model = lm.model
    embeddings = model.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in model.parameters()) - embeddings
    return 2 * body, 2 * model.get_output_embeddings().weight.numel()


def padded_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations a pair where each option is a row, padded to its batch's longest, with all logits."""
    body, head = costs(lm)
    lengths = sorted((len(p.context) + len(option) for p in prompts for option in p.options), reverse=True)
    batches = [lengths[first : first + ROWS] for first in range(0, len(lengths), ROWS)]
    return sum(len(batch) * batch[0] for batch in batches) * (body + head) / len(prompts)


def packed_cost(lm: CausalLM, prompts: Sequence[Prompt]) -> float:
    """Return the operations a pair where what is shared comes once, and logits only where they are read."""
    body, head = costs(lm)
    packs = [pack([prompts[place] for place in numbers]) for numbers in lm.plan(prompts)]
    return sum(len(one) * body + len(np.unique(one.sources)) * head for one in packs) / len(prompts)


def matrix_rate(lm: CausalLM) -> float:
    """Return the operations a second of a large matrix product in the model's device and dtype."""
    weights = next(lm.model.parameters())
    size = 2048 if weights.device.type == "cpu" else 8192
    one, other = (torch.randn(size, size, device=weights.device, dtype=weights.dtype) for _ in range(2))

    def product() -> None:
        one @ other
        if weights.device.type == "cuda":
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / min(seconds(product) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
