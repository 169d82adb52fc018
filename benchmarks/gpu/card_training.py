"""A training step on the card: MiniLM with udr's loss, in float32 and bfloat16, beside Sentence-Transformers' loss.

    python benchmarks/gpu/card_training.py --out FOLDER

A step is the forward and backward pass over 128 queries with 6 candidates each, and AdamW's update. ``cached`` computes
the same loss in mini-batches of 32 texts. Figures are medians of 20 steps, after 3 that are not counted; the memory is
the most that a step held.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from card import REPOSITORY, part, synchronize
from measuring import in_turn, median
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import batch_to_device

from udr.data import formatting, open_collection
from udr_training.config import TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import starting_model

TASKS = REPOSITORY / "examples" / "tasks"
BATCH, CANDIDATES, STEPS, WARM, MINI_BATCH = 128, 6, 20, 3, 32


def main(given: Sequence[str] | None = None) -> None:
    part("training", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    device, batch, steps = arguments.device, *((4, 2) if arguments.quick else (BATCH, STEPS))
    config = TrainConfig(max_tokens=128)
    model = starting_model(config, arguments.model).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    features, label = _batch(model, batch, device)
    losses: dict[str, Callable[..., torch.Tensor]] = {
        "ours": CandidateLoss.of(model, config),
        "cached": CandidateLoss(model, mini_batch=MINI_BATCH),
        "mnrl": MultipleNegativesRankingLoss(model),
    }

    def step(loss: Callable[..., torch.Tensor], *, bfloat16: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bfloat16):
            value = loss([dict(column) for column in features], label)
        value.backward()
        optimizer.step()
        synchronize(device)

    sides = {
        f"{name}, {dtype}": partial(step, loss, bfloat16=dtype == "bfloat16")
        for name, loss in losses.items()
        for dtype in ("float32", "bfloat16")
    }
    # The first step of all makes AdamW's state, which each step holds.
    in_turn(sides, WARM)
    memory = {name: _memory(side, device) for name, side in sides.items()}
    taken = in_turn(sides, steps)
    texts = batch * (1 + CANDIDATES)
    yield "queries", lambda: batch
    for name, turns in taken.items():
        figures = {
            "milliseconds": round(1000 * median(turns, 9), 2),
            "texts_a_second": round(texts / median(turns, 9)),
            "mib": memory[name],
        }
        yield name, partial(dict, figures)


def _batch(model: SentenceTransformer, size: int, device: str) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """Return tokenised columns of the example tasks, queries and candidates, and their labels."""
    pools = [folder.pool() for folder in open_collection(TASKS).tasks.values()]
    rows = [(pool.task, row) for pool in pools for row in pool.rows]

    def texts(make: Callable[..., str], start: int) -> list[str]:
        return [make(*rows[number % len(rows)]) for number in range(start, start + size)]

    columns = [texts(formatting.row_query, 0)]
    columns += [texts(formatting.encoder_demonstration, number * size) for number in range(1, CANDIDATES + 1)]
    keys = torch.arange(size * CANDIDATES, dtype=torch.float32).view(size, CANDIDATES)
    label = torch.cat([torch.rand(size, CANDIDATES), keys, keys.numel() + torch.arange(size)[:, None]], dim=1)
    features = [batch_to_device(model.preprocess(column), torch.device(device)) for column in columns]
    return features, label.to(device)


def _memory(work: Callable[[], None], device: str) -> float | None:
    """Return the MiB that work holds at most; None on a CPU."""
    if device == "cpu":
        work()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)


if __name__ == "__main__":
    main()
