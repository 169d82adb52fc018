"""One task of a run: its pool and its training queries, sampled by seed."""

from dataclasses import dataclass

from udr.data import Pool, TaskFolder, pool_digest, sample
from udr.errors import ConfigError
from udr.types import Row
from udr_training.candidates import CandidatePool, Candidates, Neighbours, propose
from udr_training.config import ScoringConfig
from udr_training.feedback.pairs import Pair, candidate_pairs


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A task's pool and training queries.

    Attributes:
        others: the pool, which excludes a query and its copies.
        queries: rows of the pool.
        config: how candidates are proposed and shown.
    """

    others: CandidatePool
    queries: tuple[Row, ...]
    config: ScoringConfig

    @staticmethod
    def cut(folder: TaskFolder, config: ScoringConfig, fewest: int = 1) -> "TrainingTask":
        """Sample a task's pool and queries.

        Args:
            folder: the task.
            config: sizes and seed.
            fewest: the smallest number of candidates that a query needs.

        Raises:
            ConfigError: the pool is too small.
        """
        pool = folder.pool(config.candidates.pool or None, config.seed)
        others = CandidatePool(pool, config.seed)
        context = config.feedback.context
        if others.fewest < max(fewest, context):
            raise ConfigError(
                f"the pool of task {folder.task.name!r} has {len(pool)} rows, {others.fewest} without a query and its "
                f"copies; a step needs {fewest} candidates per query, and the language model a context of {context}"
            )
        return TrainingTask(others, tuple(sample(pool.rows, config.candidates.queries or None, config.seed)), config)

    @property
    def pool(self) -> Pool:
        """The demonstrations."""
        return self.others.pool

    @property
    def digest(self) -> str:
        """A hash of the pool."""
        return pool_digest(self.pool)

    def propose(self, neighbours: Neighbours) -> Candidates:
        """Return candidates for every query: its neighbours, and a random share."""
        cut = self.config.candidates
        return propose(self.others, self.queries, neighbours, cut.num_candidates, cut.random_share)

    def pairs(self, candidates: Candidates) -> list[Pair]:
        """Return the pairs to score."""
        rows = {row.id: row for row in self.pool.rows}
        queries = [rows[query] for query in candidates]
        return candidate_pairs(self.others, queries, candidates, self.config.feedback.context)
