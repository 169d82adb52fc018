"""Batches of many tasks: one task per batch, drawn with p ∝ q^α; and the candidates of each step."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch.utils.data import BatchSampler, ConcatDataset

from udr_training.candidates import RankedExample


def task_probabilities(num_queries: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Return the chance of each task to be the next batch's: p_i ∝ q_i^α (paper, section 3.4).

    Args:
        num_queries: training queries, by task.
        alpha: 1 draws by size, 0 draws all tasks alike; the paper has 0.5.
    """
    weights = {task: count**alpha for task, count in num_queries.items()}
    total = sum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class Draw:
    """The candidates of one query that one step sees.

    Attributes:
        chosen: positions among the query's candidates.
        scores: of the chosen.
    """

    chosen: tuple[int, ...]
    scores: tuple[float, ...]


def draw_candidates(example: RankedExample, length: int, number: int, seed: int, *, stratified: bool = False) -> Draw:
    """Return the ``number``-th draw of ``length`` of a query's candidates, without repetition.

    Args:
        example: the query.
        length: l.
        number: of the draw.
        seed: of all draws.
        stratified: as the authors' code draws: one of the best tenth, one of the worst tenth, the rest in between (of
            50 candidates: the best 5, the worst 5). Else uniformly, as the paper has it.

    Raises:
        ValueError: the query has fewer candidates than that.
    """
    total = len(example.candidates)
    if total < length:
        raise ValueError(f"query {example.query_id!r} has {total} candidates, fewer than the {length} of a step")
    digest = hashlib.sha256(f"{seed}:{number}:{example.query_id}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8]))
    if stratified and length > 1:
        # Candidates stand best first.
        edge = max(1, total // 10)
        best, worst = generator.integers(edge), total - 1 - generator.integers(edge)
        rest = [place for place in range(total) if place not in (best, worst)]
        between = [place for place in rest if edge <= place < total - edge]
        # A short list has too few in between.
        among = between if len(between) >= length - 2 else rest
        chosen = [best, *generator.choice(among, size=length - 2, replace=False), worst]
    else:
        chosen = list(generator.choice(total, size=length, replace=False))
    places = tuple(map(int, chosen))
    return Draw(places, tuple(example.scores[place] for place in places))


class TaskBatchSampler(MultiDatasetDefaultBatchSampler):
    """Yields batches of one task each, tasks drawn by probability, every query of a task before any comes again.

    Each task's dataset holds its queries several times over, once a draw of candidates, draw after draw; a task that
    comes up more often than that begins anew. A batch never holds a query twice.

    Args:
        dataset: the tasks' datasets, in the order of ``probabilities``.
        batch_samplers: as ``SentenceTransformerTrainer`` makes them; only their batch size is used.
        generator: unused; the order depends on the seed and the epoch alone.
        seed: of the order.
        probabilities: by task.
        num_draws: how often each dataset holds its queries.
        num_batches: how many batches to yield.
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
    ) -> None:
        super().__init__(dataset, list(batch_samplers), generator, seed)
        if len(probabilities) != len(dataset.datasets):
            raise ValueError(f"{len(probabilities)} probabilities for {len(dataset.datasets)} tasks")
        self._probabilities = list(probabilities.values())
        self._num_draws, self._num_batches = num_draws, num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        ends = self.dataset.cumulative_sizes
        streams = [
            self._stream(start, end - start, generator) for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        for task in generator.choice(len(streams), size=self._num_batches, p=self._probabilities):
            yield next(streams[task])

    def _stream(self, start: int, length: int, generator: np.random.Generator) -> Iterator[list[int]]:
        """Yield batches of one task without end: all its queries in one draw, then in the next."""
        num_queries = length // self._num_draws
        # A task with fewer queries than a batch still trains, in smaller batches.
        size = min(self.batch_size, num_queries)
        rest: list[int] = []
        for draw in itertools.count():
            offset = start + num_queries * (draw % self._num_draws)
            # What is left of one pass begins the next one's first batch; a query that is in it already goes later.
            fresh = [int(query) for query in generator.permutation(num_queries)]
            fresh.sort(key={(row - start) % num_queries for row in rest}.__contains__)
            rows = [*rest, *(offset + query for query in fresh)]
            whole = len(rows) // size * size
            for first in range(0, whole, size):
                yield rows[first : first + size]
            rest = rows[whole:]
