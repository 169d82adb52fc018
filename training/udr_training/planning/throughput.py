"""Throughput of a run's two stages, measured on some of its own pairs and steps."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from udr.data import formatting
from udr_training.candidates import Candidates, RankedExample
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackLM, FeedbackStore, Pair, TrainingTask, score_pairs
from udr_training.losses import CandidateLoss
from udr_training.trainer import dataset, split

Rows = Mapping[str, Sequence[Any]]
"""The columns of training rows."""

# Pairs to score, and seconds after which a measurement of each stage ends.
_PAIRS, _SECONDS = 32, 20.0


def pairs_per_second(lm: FeedbackLM, pairs: Sequence[Pair]) -> Iterator[tuple[int, float]]:
    """Yield a language model's rate on more and more pairs of one task, after the number of pairs.

    The whole task is faster if demonstrations recur often.
    """
    with tempfile.TemporaryDirectory() as folder:
        with FeedbackStore(Path(folder) / "rate.sqlite", lm.fingerprint, lm.dtype, "") as store:
            # A warm-up.
            score_pairs(lm, store, pairs[:1])
            began, first, size = time.monotonic(), 1, 4
            while first < min(_PAIRS, len(pairs)) and (first == 1 or time.monotonic() - began < _SECONDS):
                part, started = pairs[first : first + size], time.monotonic()
                score_pairs(lm, store, part)
                yield len(part), len(part) / (time.monotonic() - started)
                first, size = first + size, 2 * size
            if len(pairs) == 1:
                yield 1, 1 / max(time.monotonic() - began, 1e-3)


def seconds_per_step(
    model: SentenceTransformer, tasks: Mapping[str, TrainingTask], proposed: Mapping[str, Candidates], config: RunConfig
) -> Iterator[tuple[int, float]]:
    """Yield the time of a training step, measured on more and more of its queries, after their number.

    The scores are synthetic, and the task is that with the median length of demonstrations.
    """

    def mean_length(name: str) -> float:
        pool = tasks[name].pool
        return sum(len(formatting.encoder_demonstration(pool.task, row)) for row in pool.rows) / len(pool)

    name = sorted(tasks, key=mean_length)[len(tasks) // 2]
    examples = [
        RankedExample(query, candidates, tuple(-float(position) for position, _ in enumerate(candidates)))
        for query, candidates in islice(proposed[name].items(), 4 * config.train.batch_size)
    ]
    train = replace(config.train, validation=0.0)
    model.train()
    loss = CandidateLoss.of(model, train)
    rows = dataset(split(tasks[name].pool, examples, train), train, config.seed)[: train.batch_size]
    count, size, began = len(rows["label"]), min(4, len(rows["label"])), time.monotonic()
    # A warm-up.
    _step(model, loss, rows, size, bfloat16=train.dtype == "bfloat16")
    while True:
        started = time.monotonic()
        _step(model, loss, rows, size, bfloat16=train.dtype == "bfloat16")
        yield size, (time.monotonic() - started) * train.batch_size / size
        if size == count or time.monotonic() - began > _SECONDS:
            return
        size = min(count, 4 * size)


def _step(model: SentenceTransformer, loss: CandidateLoss, rows: Rows, size: int, *, bfloat16: bool) -> None:
    """Pass the first ``size`` queries forward and backward."""
    features = [
        {key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in column.items()}
        for column in (model.preprocess(list(rows[name][:size])) for name in rows if name != "label")
    ]
    labels = torch.tensor(rows["label"][:size], device=model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
        value = loss(features, labels)
    value.backward()
