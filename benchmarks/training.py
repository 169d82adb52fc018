"""The cost of a training step relative to Sentence-Transformers' own loss on the same texts.

    python benchmarks/training.py TASKS [--task sst5] [--batch 16] [--candidates 6] [--rounds 9]

A step is the forward and backward pass of MiniLM over a batch of queries and their candidates. Ours is
``CandidateLoss``; the other is ``MultipleNegativesRankingLoss``, with the first candidate as the positive and all
others as negatives. All losses take turns on the same tokenised columns; the ratio is the median of the rounds.
``plain`` is our loss over columns that are embedded as Sentence-Transformers does it, padded to the longest text: the
cost of the loss itself, without the gain of embedding by length. ``cached`` is our loss in mini-batches, and
``cached_mnrl`` theirs. Prints a JSON line.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import median, parser
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from udr.data import formatting, open_collection, sample
from udr.models import BASE_ENCODER
from udr_training.config import TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import starting_model

MINI_BATCH = 32


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--task", default="sst5")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--candidates", type=int, default=6)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    arguments = options.parse_args()
    batch, length = arguments.batch, arguments.candidates
    config = TrainConfig(max_tokens=128)
    model = starting_model(config, BASE_ENCODER).train()

    pool = open_collection(arguments.tasks, [arguments.task]).tasks[arguments.task].pool()
    rows = sample(pool.rows, batch * (1 + length), 0)
    texts = [[formatting.row_query(pool.task, row) for row in rows[:batch]]]
    for number in range(1, length + 1):
        own = rows[number * batch : (number + 1) * batch]
        texts.append([formatting.encoder_demonstration(pool.task, row) for row in own])
    keys = torch.arange(batch * length, dtype=torch.float32).view(batch, length)
    label = torch.cat([torch.rand(batch, length), keys, keys.numel() + torch.arange(batch)[:, None]], dim=1)
    ours = CandidateLoss.of(model, config)

    def columns() -> list[dict]:
        return [model.preprocess(column) for column in texts]

    def plain(features: list[dict], labels: torch.Tensor) -> torch.Tensor:
        queries, *candidates = embed_columns(model, features, separate_first=True)
        return ours.compute_loss_from_embeddings(queries, torch.stack(candidates, dim=1), labels)

    sides: dict[str, Callable] = {
        "ours": ours,
        "plain": plain,
        "mnrl": MultipleNegativesRankingLoss(model),
        "cached": CandidateLoss(model, mini_batch=MINI_BATCH),
        "cached_mnrl": CachedMultipleNegativesRankingLoss(model, mini_batch_size=MINI_BATCH),
    }

    def seconds(loss: Callable) -> float:
        features = columns()
        model.zero_grad()
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtype == "bfloat16"):
            value = loss(features, label)
        value.backward()
        return time.perf_counter() - started

    for loss in sides.values():
        seconds(loss)
    rounds = [{name: seconds(loss) for name, loss in sides.items()} for _ in range(arguments.rounds)]
    line = {"case": "step", "task": arguments.task, "batch": batch, "candidates": length, "dtype": arguments.dtype}
    for name, other in (("ours", "mnrl"), ("plain", "mnrl"), ("cached", "cached_mnrl")):
        line[f"{name} / {other}"] = median([turn[name] / turn[other] for turn in rounds])
    for name in sides:
        line[f"{name}_seconds"] = median([turn[name] for turn in rounds])
    print(json.dumps(line))


if __name__ == "__main__":
    main()
