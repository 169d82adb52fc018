"""A training's data: a task's ranked examples, split into training and validation, as a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from udr.data import Pool, copy_text, formatting
from udr_training.candidates import RankedExample
from udr_training.config import TrainConfig
from udr_training.trainer.sampler import draw_candidates

_Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class TaskExamples:
    """What one task brings to a training.

    Attributes:
        pool: where queries and candidates come from.
        learned: the queries that are trained on, with their ranked candidates.
        watched: those by which the training is judged while it runs.
    """

    pool: Pool
    learned: tuple[RankedExample, ...]
    watched: tuple[RankedExample, ...] = ()


def split(pool: Pool, examples: Sequence[RankedExample], config: TrainConfig) -> TaskExamples:
    """Cut a task's examples: the last ones are watched.

    Queries are drawn by seed, so the last are as good as any, and the same ones in every iteration.

    Args:
        pool: the task's.
        examples: in the order of the queries.
        config: says how many are watched.
    """
    learned = num_learned(len(examples), config)
    return TaskExamples(pool, tuple(examples[:learned]), tuple(examples[learned:]))


def num_learned(num_queries: int, config: TrainConfig) -> int:
    """Return how many of a task's queries are trained on: all that are not watched, and at least one."""
    return max(1, num_queries - round(config.validation * num_queries))


def dataset(task: TaskExamples, config: TrainConfig, seed: int) -> Dataset:
    """Return the learned queries, once a draw of candidates, draw after draw; texts are looked up when read.

    Columns: ``query``, ``candidate_1`` to ``candidate_l``, and the ``label`` that ``CandidateLoss`` reads.
    """
    places = {row.id: place for place, row in enumerate(task.pool.rows)}
    keys = _text_keys(task.pool)
    rows: dict[str, list[object]] = {"query": [], "candidates": [], "label": []}
    for number in range(config.epochs):
        for example in task.learned:
            draw = draw_candidates(example, config.list_length, number, seed, stratified=config.draws == "stratified")
            query = places[example.query_id]
            candidates = [places[example.candidates[place]] for place in draw.chosen]
            rows["query"].append(query)
            rows["candidates"].append(candidates)
            rows["label"].append([*draw.scores, *(float(keys[place]) for place in candidates), float(keys[query])])
    data = Dataset.from_dict(rows)
    data.set_transform(_Wording(task.pool))
    return data


class _Wording:
    """Turns positions in a pool into what the encoder reads; ``datasets`` calls it on the rows of a batch."""

    def __init__(self, pool: Pool) -> None:
        self._queries = [formatting.row_query(pool.task, row) for row in pool.rows]
        self._demonstrations = [formatting.encoder_demonstration(pool.task, row) for row in pool.rows]

    def __call__(self, batch: _Columns) -> _Columns:
        columns: _Columns = {"query": [self._queries[place] for place in batch["query"]]}
        for number, places in enumerate(zip(*batch["candidates"], strict=True), start=1):
            columns[f"candidate_{number}"] = [self._demonstrations[place] for place in places]
        return {**columns, "label": batch["label"]}


def _text_keys(pool: Pool) -> list[int]:
    """Return a number for each row; copies share one."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(copy_text(pool.task, row), len(numbers)) for row in pool.rows]
