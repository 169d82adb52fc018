"""Throughput of a run's two stages, measured on some of its own pairs and steps."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from udr.data import formatting
from udr_training.candidates import Candidates, RankedExample
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackLM, FeedbackStore, Pair, TrainingTask, score_pairs
from udr_training.losses import CandidateLoss
from udr_training.trainer import dataset, split

# Pairs to score, and steps to take, of which the first is not counted.
_PAIRS, _STEPS = 32, 3


def pairs_per_second(lm: FeedbackLM, pairs: Sequence[Pair]) -> float:
    """Return a language model's rate on pairs of one task; the whole task is faster if demonstrations recur often."""
    sample = pairs[:_PAIRS]
    with tempfile.TemporaryDirectory() as folder:
        with FeedbackStore(Path(folder) / "rate.sqlite", lm.fingerprint, lm.dtype, "") as store:
            # A warm-up.
            score_pairs(lm, store, sample[:1])
            started = time.monotonic()
            score_pairs(lm, store, sample)
            return max(1, len(sample) - 1) / (time.monotonic() - started)


def seconds_per_step(
    model: SentenceTransformer, tasks: Mapping[str, TrainingTask], proposed: Mapping[str, Candidates], config: RunConfig
) -> float:
    """Return the time of a training step on synthetic scores, on the task with the median length of demonstrations."""

    def mean_length(name: str) -> float:
        pool = tasks[name].pool
        return sum(len(formatting.encoder_demonstration(pool.task, row)) for row in pool.rows) / len(pool)

    name = sorted(tasks, key=mean_length)[len(tasks) // 2]
    examples = [
        RankedExample(query, candidates, tuple(-float(position) for position, _ in enumerate(candidates)))
        for query, candidates in proposed[name].items()
    ]
    train = replace(config.train, validation=0.0)
    model.train()
    loss = CandidateLoss.of(model, train)
    rows = dataset(split(tasks[name].pool, examples, train), train, config.seed)[: train.batch_size]
    labels = torch.tensor(rows["label"], device=model.device)
    times = []
    for _ in range(_STEPS):
        started = time.monotonic()
        features = [
            {key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in column.items()}
            for column in (model.preprocess(list(rows[name])) for name in rows if name != "label")
        ]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=train.dtype == "bfloat16"):
            value = loss(features, labels)
        value.backward()
        times.append(time.monotonic() - started)
    return min(times[1:])
