"""Validation: the encoder's order of held-out queries' candidates against the language model's scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import SentenceEvaluator

from udr.data import formatting
from udr_training.candidates import RankedExample, ndcg, ranks, reciprocal_rank
from udr_training.trainer.dataset import TaskExamples

BEST = "ndcg_mean"
"""The metric that selects the best checkpoint."""


class RankValidation(SentenceEvaluator):
    """NDCG@8 and MRR of the encoder's order against the language model's scores, by task and their mean.

    Args:
        tasks: by name; one that has nothing to watch is left out.
    """

    def __init__(self, tasks: Mapping[str, TaskExamples]) -> None:
        # Sentence-Transformers does not type its evaluators.
        init: Any = super().__init__
        init()
        self.tasks = {name: task for name, task in tasks.items() if task.watched}
        self.primary_metric = BEST

    def __call__(  # type: ignore[override]
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return ``ndcg_TASK`` and ``mrr_TASK`` for each task, ``ndcg_mean`` and ``mrr_mean``."""
        orders = {name: _orders(model, task) for name, task in self.tasks.items()}
        values: dict[str, float] = {}
        for measure, of_one in (("ndcg", ndcg), ("mrr", reciprocal_rank)):
            by_task = {name: float(np.mean([of_one(order) for order in own])) for name, own in orders.items()}
            values |= {f"{measure}_{name}": value for name, value in by_task.items()}
            values[f"{measure}_mean"] = float(np.mean(list(by_task.values())))
        return values


def _orders(model: SentenceTransformer, task: TaskExamples) -> list[list[int]]:
    """Return for each query the ranks of its candidates by score, in the encoder's order, nearest first."""
    rows = {row.id: row for row in task.pool.rows}
    ids = sorted({id for example in task.watched for id in example.candidates})
    demonstrations = [formatting.encoder_demonstration(task.pool.task, rows[id]) for id in ids]
    queries = [formatting.row_query(task.pool.task, rows[example.query_id]) for example in task.watched]
    places = {id: place for place, id in enumerate(ids)}
    similarities = _similarities(model, queries, demonstrations)
    return [
        _in_order(example, similarities[number, [places[id] for id in example.candidates]])
        for number, example in enumerate(task.watched)
    ]


def _in_order(example: RankedExample, similarities: NDArray[np.floating]) -> list[int]:
    # Equally near candidates stand in the order of their ids: in that of their scores, they would flatter the encoder.
    own = zip(-similarities, example.candidates, ranks(example.scores), strict=True)
    return [rank for _, _, rank in sorted(own)]


def _similarities(
    model: SentenceTransformer, queries: Sequence[str], demonstrations: Sequence[str]
) -> NDArray[np.floating]:
    found = model.similarity(
        model.encode_query(list(queries), convert_to_tensor=True, show_progress_bar=False),
        model.encode_document(list(demonstrations), convert_to_tensor=True, show_progress_bar=False),
    )
    rounded: NDArray[np.floating] = found.float().cpu().numpy().round(5)
    return rounded
