"""Trainings of seconds, and what tests of them share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

from udr_training.config import TrainConfig
from udr_training.losses import CandidateLoss
from udr_training.trainer import RankValidation, TaskExamples, train_encoder

TEXTS = ["a text", "another, longer one"]


def trained(
    tasks: Mapping[str, TaskExamples], config: TrainConfig, folder: Path, start: str | None = None
) -> SentenceTransformer:
    train_encoder(tasks, config, 0, start or config.model, folder)
    return SentenceTransformer(str(folder / "model"), device="cpu")


def unwatched(brought: Mapping[str, TaskExamples]) -> dict[str, TaskExamples]:
    """The same, so that the last model is taken and not the best, which may be the first."""
    return {name: replace(task, watched=()) for name, task in brought.items()}


def metrics(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def never_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every validation say the same."""
    values = {"ndcg_mean": 0.5, "ndcg_reviews": 0.5, "mrr_mean": 0.5}
    monkeypatch.setattr(RankValidation, "__call__", lambda self, *_, **__: values)


def interrupted_at(step: int) -> Callable[..., object]:
    """A loss that is interrupted at its n-th step."""
    forward, calls = CandidateLoss.forward, []

    def call(self: CandidateLoss, *columns: Any) -> object:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return forward(self, *columns)

    return call
