"""Validation: the encoder's order of held-out queries' candidates against the language model's scores."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import SentenceEvaluator
from torch import Tensor

from udr.data import formatting
from udr_training.candidates import ndcg, ranks, reciprocal_rank
from udr_training.losses import data_size, tensor_size
from udr_training.trainer.dataset import TaskExamples

BEST = "ndcg_mean"
"""The metric that selects the best checkpoint."""


class RankValidation(SentenceEvaluator):
    """NDCG@8 and MRR of the encoder's order against the language model's scores, by task and their mean.

    Tasks without validation queries are skipped.
    """

    def __init__(self, tasks: Mapping[str, TaskExamples]) -> None:
        # Sentence-Transformers does not type its evaluators.
        init: Any = super().__init__
        init()
        self.tasks = {name: task for name, task in tasks.items() if task.validation}
        self.primary_metric = BEST

    def __call__(  # type: ignore[override]
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return ``ndcg_TASK`` and ``mrr_TASK`` for each task, ``ndcg_mean`` and ``mrr_mean``."""
        orders = {name: _orders(model, task) for name, task in self.tasks.items()}
        values: dict[str, float] = {}
        for name, metric in (("ndcg", ndcg), ("mrr", reciprocal_rank)):
            by_task = {task: float(np.mean(list(map(metric, orders[task])))) for task in orders}
            values |= {f"{name}_{task}": value for task, value in by_task.items()}
            values[f"{name}_mean"] = float(np.mean(list(by_task.values())))
        return values


def validation_similarities(model: SentenceTransformer, task: TaskExamples) -> list[list[float]]:
    """Return for each validation query the encoder's similarity to each candidate, in their order."""
    rows = {row.id: row for row in task.rows}
    ids = sorted({id for example in task.validation for id in example.candidates})
    columns = {id: column for column, id in enumerate(ids)}
    queries = [formatting.row_query(task.pool.task, rows[example.query_id]) for example in task.validation]
    demonstrations = [formatting.encoder_demonstration(task.pool.task, rows[id]) for id in ids]
    computed = model.similarity(
        _embedded(model.encode_query, queries),
        _embedded(model.encode_document, demonstrations),
    )
    similarities: NDArray[np.floating] = computed.float().cpu().numpy().round(5)
    return [
        similarities[row, [columns[id] for id in example.candidates]].tolist()
        for row, example in enumerate(task.validation)
    ]


def _embedded(encode: Callable[..., Tensor], texts: list[str]) -> Tensor:
    """Return the vectors of texts and, after them, of copies of the last.

    Sentence-Transformers splits texts evenly among processes. Those of a tensor-parallel group need the same ones, and
    shards need equally many passes of each process.
    """
    size = math.ceil(len(texts) / data_size())
    texts = texts + texts[-1:] * (size * data_size() - len(texts))
    shares = [texts[first : first + size] for first in range(0, len(texts), size)]
    repeated = [text for share in shares for _ in range(tensor_size()) for text in share]
    vectors = encode(repeated, convert_to_tensor=True, show_progress_bar=False)
    return vectors.view(data_size(), tensor_size(), size, -1)[:, 0].flatten(0, 1)


def _orders(model: SentenceTransformer, task: TaskExamples) -> list[list[int]]:
    """Return for each query the ranks of its candidates by score, in the encoder's order, nearest first."""
    orders = []
    for similarities, example in zip(validation_similarities(model, task), task.validation, strict=True):
        distances = [-similarity for similarity in similarities]
        # Ties by id: candidates are in the order of their scores, which would flatter the encoder.
        nearest_first = sorted(zip(distances, example.candidates, ranks(example.scores), strict=True))
        orders.append([rank for _, _, rank in nearest_first])
    return orders
