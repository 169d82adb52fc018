"""What tests of several processes run in each of them: functions that a process finds by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from udr_training.config import LOSSES, TrainConfig
from udr_training.losses import CandidateLoss, average_gradients, num_processes, process_number

QUERIES, LENGTH = 5, 4


def record_gradients(config: TrainConfig, file: Path, on_step: Callable[[int, int], None]) -> None:
    """Save the loss and the gradients of one batch, of which each process has a part, for every kind of loss."""
    first, end = (QUERIES * number // num_processes() for number in (process_number(), process_number() + 1))
    columns = [[f"{'long ' * (query * column % 5)}text {query}" for query in range(QUERIES)] for column in range(5)]
    scores = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) * 7 % 11
    keys = torch.arange(QUERIES * LENGTH).view(QUERIES, LENGTH) % 13
    # A query is a copy of a candidate of another process, and so are candidates.
    labels = torch.cat([scores, keys, torch.arange(QUERIES)[:, None]], dim=1).float()
    results: dict[str, Any] = {}
    for kind in LOSSES:
        for mini_batch in (0, 3):
            model = SentenceTransformer(config.model, device="cpu").eval()
            settings = replace(config, loss=kind, mini_batch=mini_batch, score_margin=0.1, score_temperature=1.0)
            loss = CandidateLoss.of(model, settings)
            value = loss([model.preprocess(column[first:end]) for column in columns], labels[first:end])
            value.backward()
            if num_processes() > 1:
                average_gradients(model.parameters())
            gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
            results[f"{kind}, {mini_batch}"] = {"loss": value.detach(), **gradients}
    on_step(1, 1)
    if process_number() == 0:
        torch.save(results, file)
