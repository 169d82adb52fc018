"""Trainings of a second, and what tests of them share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from sentence_transformers import SentenceTransformer

from udr_training.config import TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import RankValidation, TaskExamples, train_encoder

Tasks = Mapping[str, TaskExamples]
TEXTS = ["a text", "another, longer one"]


def trained(tasks: Tasks, config: TrainConfig, folder: Path, start: str | None = None) -> SentenceTransformer:
    train_encoder(tasks, config, 0, start or config.model, folder)
    return SentenceTransformer(str(folder / "model"), device="cpu")


def interrupted(
    tasks: Tasks, config: TrainConfig, folder: Path, step: int, patch: pytest.MonkeyPatch, start: str | None = None
) -> None:
    """Train until an interruption in the forward pass of a step."""
    with patch.context() as context:
        context.setattr(CandidateLoss, "forward", _interrupted_at(step))
        with pytest.raises(KeyboardInterrupt):
            trained(tasks, config, folder, start)


def _interrupted_at(step: int) -> Callable[..., object]:
    forward, calls = CandidateLoss.forward, []

    def call(self: CandidateLoss, *columns: Any) -> object:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return forward(self, *columns)

    return call


def out_of_memory(*_: object, **__: object) -> NoReturn:
    """Fail as on a GPU that is too small."""
    raise torch.OutOfMemoryError


def without_validation(tasks: Tasks) -> dict[str, TaskExamples]:
    """Return the tasks without validation queries, so that the training keeps the last model."""
    return {name: replace(task, validation=()) for name, task in tasks.items()}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def never_better(monkeypatch: pytest.MonkeyPatch, first: float = 0.5) -> None:
    """Give every validation the same values, apart from the first one."""
    values = {"ndcg_mean": 0.5, "ndcg_reviews": 0.5, "mrr_mean": 0.5}
    given = chain([values | {"ndcg_mean": first}], repeat(values))
    monkeypatch.setattr(RankValidation, "__call__", lambda self, *_, **__: next(given))
