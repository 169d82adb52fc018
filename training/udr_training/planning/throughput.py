"""Throughput of a run's two stages, measured on some of its own pairs and steps."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from udr.data import formatting
from udr_training.candidates import Candidates, RankedExample
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackLM, FeedbackStore, Pair, TrainingTask, score_pairs
from udr_training.losses import CandidateLoss
from udr_training.trainer import dataset, split

_PAIRS = 32
"""Pairs to score."""

_STEPS = 3
"""Steps to take; the first is not counted."""


def pairs_per_second(lm: FeedbackLM, pairs: Sequence[Pair]) -> float:
    """Return a language model's rate of scoring pairs of one task.

    Args:
        lm: the language model.
        pairs: pairs of one task; the whole task is faster if few demonstrations occur often.
    """
    some = pairs[:_PAIRS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rate.sqlite"
        with FeedbackStore(path, lm.fingerprint, lm.dtype, formatting.LM_WORDING) as store:
            # A warm-up.
            score_pairs(lm, store, some[:1])
            started = time.monotonic()
            score_pairs(lm, store, some)
            return max(1, len(some) - 1) / (time.monotonic() - started)


def seconds_per_step(
    model: SentenceTransformer,
    tasks: Mapping[str, TrainingTask],
    proposed: Mapping[str, Candidates],
    config: RunConfig,
) -> float:
    """Return the time of a training step, on the task with the median length of demonstrations.

    Args:
        model: the encoder to train.
        tasks: by name.
        proposed: their candidates, which get synthetic scores.
        config: the run's configuration.
    """
    name = sorted(tasks, key=lambda name: _mean_length(tasks[name]))[len(tasks) // 2]
    examples = [
        RankedExample(query, candidates, tuple(-float(position) for position in range(len(candidates))))
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


def _mean_length(task: TrainingTask) -> float:
    return float(np.mean([len(formatting.encoder_demonstration(task.pool.task, row)) for row in task.pool.rows]))
