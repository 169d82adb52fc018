"""Batches of many tasks: one task per batch, drawn with p ∝ q^α; and the candidates of each step."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch.utils.data import BatchSampler, ConcatDataset

from udr_training.candidates import RankedExample


def task_probabilities(num_queries: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Return each task's probability to give the next batch, p_i ∝ q_i^α, from its number of training queries.

    α = 1 draws by size, 0 uniformly; the paper (section 3.4) has 0.5.
    """
    weights = {task: count**alpha for task, count in num_queries.items()}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


def draw_candidates(
    example: RankedExample,
    length: int,
    number: int,
    seed: int,
    *,
    stratified: bool = False,
    needed: Sequence[int] = (),
) -> tuple[int, ...]:
    """Return the ``number``-th draw of ``length`` of a query's candidates: their positions, without replacement.

    Args:
        example: the query.
        length: l.
        number: of the draw.
        seed: of all draws.
        stratified: draw as the authors' code does, one of the best tenth, one of the worst tenth and the rest from
            between (with 50 candidates: the best 5, the worst 5); else uniformly, as the paper does.
        needed: positions of which the draw has at least one: the first one drawn makes room, if there is none.

    Raises:
        ValueError: the query has fewer candidates.
    """
    total = len(example.candidates)
    if total < length:
        raise ValueError(f"query {example.query_id!r} has {total} candidates, fewer than the {length} of a step")
    digest = hashlib.sha256(f"{seed}:{number}:{example.query_id}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8]))
    if not stratified or length == 1:
        chosen = tuple(map(int, generator.choice(total, size=length, replace=False)))
    else:
        chosen = _stratified(total, length, generator)
    if needed and not set(needed) & set(chosen):
        return (int(generator.choice(needed)), *chosen[1:])
    return chosen


def _stratified(total: int, length: int, generator: np.random.Generator) -> tuple[int, ...]:
    # Candidates are ordered best first.
    edge = max(1, total // 10)
    best, worst = int(generator.integers(edge)), total - 1 - int(generator.integers(edge))
    rest = [position for position in range(total) if position not in (best, worst)]
    between = [position for position in rest if edge <= position < total - edge]
    # A short list has too few in between.
    source = between if len(between) >= length - 2 else rest
    return (best, *map(int, generator.choice(source, size=length - 2, replace=False)), worst)


class TaskBatchSampler(MultiDatasetDefaultBatchSampler):
    """Yields batches of one task each, tasks drawn by probability, every query of a task once before any repeats.

    Each task's dataset has all its queries once for each draw of candidates. A task that needs more draws starts over.
    A batch never contains a query twice: the column ``query`` says which one a row is, since extrapolated queries take
    turns.

    Processes that train together share each batch. All of them have the same batches, which follow from the seed; a
    batch is yielded as one part for each process, in their order, of which the trainer gives each process its own.
    Those of a tensor-parallel group get the same part.

    Args:
        dataset: the tasks' datasets, in the order of ``probabilities``.
        batch_samplers: those of ``SentenceTransformerTrainer``; only their batch size is used.
        generator: unused; the order depends only on the seed and the epoch.
        seed: of the order.
        probabilities: by task.
        num_draws: draws of candidates in each dataset.
        num_batches: batches to yield.
        num_parts: parts of a batch, one for each process or tensor-parallel group.
        copies: of each part, one for each process of a group.

    Raises:
        ValueError: a batch of a task has too few queries for the parts.
    """

    def __init__(
        self,
        dataset: "ConcatDataset[object]",
        batch_samplers: Sequence[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int = 0,
        *,
        probabilities: Mapping[str, float],
        num_draws: int,
        num_batches: int,
        num_parts: int = 1,
        copies: int = 1,
    ) -> None:
        super().__init__(dataset, list(batch_samplers), generator, seed)
        if len(probabilities) != len(dataset.datasets):
            raise ValueError(f"{len(probabilities)} probabilities for {len(dataset.datasets)} tasks")
        self._probabilities = list(probabilities.values())
        self._num_draws, self._num_batches, self._num_parts = num_draws, num_batches, num_parts
        self._size, self._copies = self.batch_size, copies
        smallest = min(self._size, *(size // num_draws for size in _sizes(dataset)))
        if smallest < num_parts:
            raise ValueError(f"a batch of {smallest} queries cannot be shared by {num_parts} processes")
        # Accelerate drops batches of another size than this, and small tasks have smaller ones.
        self.batch_size = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return self._num_batches * self._num_parts * self._copies

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        datasets: list[Any] = self.dataset.datasets
        starts = [0, *self.dataset.cumulative_sizes[:-1]]
        batches = [
            # Without the format, which renders texts.
            self._batches(start, list(data.with_format(None)["query"]), generator)
            for start, data in zip(starts, datasets, strict=True)
        ]
        for task in generator.choice(len(batches), size=self._num_batches, p=self._probabilities):
            batch = next(batches[task])
            bounds_of_parts = (len(batch) * part // self._num_parts for part in range(self._num_parts + 1))
            for first, end in itertools.pairwise(bounds_of_parts):
                yield from itertools.repeat(batch[first:end], self._copies)

    def _batches(self, start: int, queries: Sequence[object], generator: np.random.Generator) -> Iterator[list[int]]:
        """Yield batches of one task without end: all its queries in one draw, then in the next."""
        num_queries = len(queries) // self._num_draws
        # A task with fewer queries than a batch has smaller batches.
        size = min(self._size, num_queries)
        rest: list[int] = []
        for draw in itertools.count():
            offset = num_queries * (draw % self._num_draws)
            # The rest of one pass starts the first batch of the next, whose own copies of these queries come last.
            order = [offset + int(place) for place in generator.permutation(num_queries)]
            begun = {queries[row] for row in rest}
            order.sort(key={row for row in order if queries[row] in begun}.__contains__)
            rows = [*rest, *order]
            complete = len(rows) // size * size
            for first in range(0, complete, size):
                yield [start + row for row in rows[first : first + size]]
            rest = rows[complete:]


def _sizes(dataset: "ConcatDataset[object]") -> list[int]:
    return [end - start for start, end in itertools.pairwise([0, *dataset.cumulative_sizes])]
