"""Throughput of a run's stages, measured on some of its own pairs and steps."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from udr.data import Pool, formatting
from udr_training.candidates import Candidates, RankedExample
from udr_training.config import RunConfig, TrainConfig
from udr_training.feedback import FeedbackLM, FeedbackStore, Pair, TrainingTask, score_pairs
from udr_training.losses import CandidateLoss
from udr_training.trainer import dataset, split
from udr_training.trainer.extrapolation import RewardModel, ScoreListLoss, reward_config

Rows = Mapping[str, Sequence[Any]]
"""The columns of training rows."""

# Pairs to score, and seconds after which a measurement of each stage ends.
_PAIRS, _SECONDS = 32, 20.0


def pairs_per_second(lm: FeedbackLM, pairs: Sequence[Pair]) -> Iterator[tuple[int, float]]:
    """Yield a language model's rate on more and more pairs of one task, at least two, after the number of pairs.

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


def seconds_per_step(
    model: SentenceTransformer, tasks: Mapping[str, TrainingTask], proposed: Mapping[str, Candidates], config: RunConfig
) -> Iterator[tuple[int, float]]:
    """Yield the time of a training step, measured on more and more of its queries, after their number.

    The scores are synthetic, and the task is that with the longest demonstrations.
    """
    train, task = replace(config.train, validation=0.0), _longest_task(tasks)
    model.train()
    # It takes its time, and changes nothing.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    loss, rows = CandidateLoss.of(model, train), _batch(tasks[task].pool, proposed[task], train, config.seed)

    def step(size: int) -> None:
        features = [
            {key: value.to(model.device) if isinstance(value, torch.Tensor) else value for key, value in column.items()}
            for column in (model.preprocess(list(rows[name][:size])) for name in rows if name != "label")
        ]
        labels = torch.tensor(rows["label"][:size], device=model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=train.dtype == "bfloat16"):
            value = loss(features, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    for size, seconds in _growing(step, len(rows["label"])):
        yield size, seconds * train.batch_size / size


def reward_rates(
    tasks: Mapping[str, TrainingTask], proposed: Mapping[str, Candidates], config: RunConfig
) -> tuple[float, float]:
    """Return the time of a reward model's training step, and the pairs that it scores per second; on the same task."""
    train, reward = replace(reward_config(config), validation=0.0), RewardModel.load(config)
    task = _longest_task(tasks)
    pool, candidates = tasks[task].pool, proposed[task]
    rows = _batch(pool, candidates, train, config.seed, gold=True)
    loss = ScoreListLoss(reward.model, train.score_temperature)
    optimizer = torch.optim.AdamW(reward.model.parameters(), lr=0.0)

    def step(size: int) -> None:
        columns = [list(rows[name][:size]) for name in rows if name != "label"]
        labels = [torch.tensor(label) for label in rows["label"][:size]]
        with torch.autocast(reward.model.device.type, torch.bfloat16, enabled=train.dtype == "bfloat16"):
            value = loss(columns, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    reward.model.train()
    *_, (size, seconds) = _growing(step, len(rows["label"]))
    reward.model.eval()
    few = list(candidates.items())[: max(1, _PAIRS // config.candidates.num_candidates)]
    *_, (queries, scoring) = _growing(lambda count: reward.scores(pool, dict(few[:count])), len(few))
    return seconds * train.batch_size / size, sum(len(ids) for _, ids in few[:queries]) / scoring


def _longest_task(tasks: Mapping[str, TrainingTask]) -> str:
    """Return the task with the longest demonstrations on average, so that no task's steps take longer."""

    def mean_length(name: str) -> float:
        pool = tasks[name].pool
        return sum(len(formatting.encoder_demonstration(pool.task, row)) for row in pool.rows) / len(pool)

    return max(tasks, key=mean_length)


def _batch(pool: Pool, proposed: Candidates, train: TrainConfig, seed: int, *, gold: bool = False) -> Rows:
    """Return a batch of a task, with synthetic scores."""
    examples = [
        RankedExample(query, candidates, tuple(-float(position) for position, _ in enumerate(candidates)))
        for query, candidates in islice(proposed.items(), 4 * train.batch_size)
    ]
    data = dataset(split(pool, examples, train), train, seed, gold=gold)
    return dict(data[: train.batch_size])


def _growing(work: Callable[[int], object], most: int) -> Iterator[tuple[int, float]]:
    """Yield the seconds of work on more and more items, up to ``most``, after their number."""
    size, began = min(4, most), time.monotonic()
    # A warm-up.
    _finished(work, size)
    while True:
        started = time.monotonic()
        _finished(work, size)
        yield size, time.monotonic() - started
        if size == most or time.monotonic() - began > _SECONDS:
            return
        size = min(most, 4 * size)


def _finished(work: Callable[[int], object], size: int) -> None:
    """Do work, and wait for it: on a GPU, a backward pass has only begun when its call returns."""
    work(size)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
