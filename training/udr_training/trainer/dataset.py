"""A training's data: a task's ranked examples, split into training and validation, as a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from udr.data import Kind, Pool, copy_text, formatting
from udr.types import Row
from udr_training.candidates import RankedExample, demonstration_means, subtracted
from udr_training.config import TrainConfig
from udr_training.trainer.sampler import draw_candidates


@dataclass(frozen=True, slots=True)
class TaskExamples:
    """A task's part of a training.

    Attributes:
        pool: the rows of candidates and, unless they are among ``asked``, of queries.
        training: the training queries of the first iteration with their ranked candidates.
        later: those of later iterations.
        extrapolated: further queries, with scores that follow from labels or a reward model.
        validation: the queries that evaluate the encoder during the training.
        asked: queries of real traffic, which are not rows of the pool.
    """

    pool: Pool
    training: tuple[RankedExample, ...]
    validation: tuple[RankedExample, ...] = ()
    extrapolated: tuple[RankedExample, ...] = ()
    later: tuple[RankedExample, ...] = ()
    asked: tuple[Row, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the pool, then further queries."""
        return (*self.pool.rows, *self.asked)

    @property
    def learned(self) -> tuple[RankedExample, ...]:
        """All queries with scores of the language model that are trained on."""
        return (*self.training, *self.later)


def split(
    pool: Pool, examples: Sequence[RankedExample], config: TrainConfig, num_first: int | None = None
) -> TaskExamples:
    """Split a task's examples, which are in the order of the queries; the last of the first iteration validate.

    Queries are drawn by seed, so the last are a random sample, and the same in every iteration.

    Args:
        pool: the rows.
        examples: of all iterations.
        config: the training's.
        num_first: how many of them the first iteration asked; None for all.
    """
    first, later = examples[:num_first], () if num_first is None else examples[num_first:]
    count = config.num_learned(len(first))
    return TaskExamples(pool, tuple(first[:count]), tuple(first[count:]), later=tuple(later))


def centred(task: TaskExamples) -> TaskExamples:
    """Return a task's examples with each demonstration's mean subtracted from the scores that are learned.

    The validation keeps its scores: what counts is how much a demonstration helps.
    """
    means = demonstration_means(task.learned)
    return replace(
        task,
        training=subtracted(means, task.training),
        later=subtracted(means, task.later),
        extrapolated=subtracted(means, task.extrapolated),
    )


def dataset(task: TaskExamples, config: TrainConfig, seed: int, *, gold: bool = False) -> Dataset:
    """Return the training queries, all of them once for each draw of candidates; texts are rendered when read.

    With extrapolated queries, each draw has as many of them as scored ones, or all; the next draw has the next ones.
    Where their scores follow from labels, wrong candidates may have equal ones. Each list has a candidate with the
    query's label, since the loss would take any of the wrong ones for the best.

    Columns: ``query``, ``candidate_1`` to ``candidate_l``, and the ``label`` that ``CandidateLoss`` reads.

    Args:
        task: the task's part of the training.
        config: the training's.
        seed: of the draws.
        gold: a query shows its target, and a candidate no instruction, as a reward model reads them.
    """
    pool, rows = task.pool, task.rows
    positions = {row.id: position for position, row in enumerate(rows)}
    # Copies of a text share a key.
    numbers: dict[str, int] = {}
    keys = [float(numbers.setdefault(copy_text(pool.task, row), len(numbers))) for row in rows]
    targets = _target_numbers(pool) if config.label_aware and pool.task.kind is Kind.CLASSIFICATION else None
    columns: dict[str, list[object]] = {"query": [], "candidates": [], "label": []}
    by_labels = {example.query_id for example in task.extrapolated if config.extrapolate == "labels"}
    for number in range(config.epochs):
        for example in (*task.learned, *_turn(task, number)):
            query, proposed = positions[example.query_id], [positions[id] for id in example.candidates]
            needed: Sequence[int] = ()
            if example.query_id in by_labels:
                needed = [index for index, other in enumerate(proposed) if rows[other].target == rows[query].target]
            chosen = draw_candidates(
                example,
                config.list_length,
                number,
                seed,
                stratified=config.draws == "stratified",
                needed=needed,
            )
            candidates = [proposed[index] for index in chosen]
            scores = [example.scores[index] for index in chosen]
            columns["query"].append(query)
            columns["candidates"].append(candidates)
            label = [*scores, *(keys[position] for position in candidates), keys[query]]
            if targets is not None:
                label += [targets[position] for position in candidates]
            columns["label"].append(label)
    data = Dataset.from_dict(columns)
    data.set_transform(_Rendering(task, gold=gold))
    return data


def num_extrapolated(task: TaskExamples) -> int:
    """Return how many extrapolated queries each draw has."""
    return min(len(task.learned), len(task.extrapolated))


def _turn(task: TaskExamples, number: int) -> list[RankedExample]:
    """Return the extrapolated queries of a draw."""
    count, total = num_extrapolated(task), len(task.extrapolated)
    return [task.extrapolated[(number * count + place) % total] for place in range(count)]


def _target_numbers(pool: Pool) -> list[float]:
    numbers: dict[str, int] = {}
    return [float(numbers.setdefault(row.target, len(numbers))) for row in pool.rows]


class _Rendering:
    """Turns positions among a task's rows into the encoder's texts; ``datasets`` calls it with a batch of them."""

    def __init__(self, examples: TaskExamples, *, gold: bool) -> None:
        query = formatting.encoder_demonstration if gold else formatting.row_query
        demonstration = formatting.solved_text if gold else formatting.encoder_demonstration
        task = examples.pool.task
        self._queries = [query(task, row) for row in examples.rows]
        self._demonstrations = [demonstration(task, row) for row in examples.pool.rows]

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"query": [self._queries[position] for position in batch["query"]]}
        for number, positions in enumerate(zip(*batch["candidates"], strict=True), start=1):
            columns[f"candidate_{number}"] = [self._demonstrations[position] for position in positions]
        return {**columns, "label": batch["label"]}
