"""The retrievers that an evaluation compares: random, BM25, an encoder, a run, the oracle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

from udr.data import ENCODER_WORDING, Pool, formatting
from udr.models import SentenceEncoder
from udr.types import Json, Row
from udr_training.candidates import (
    CandidatePool,
    bm25_neighbours,
    chance_share,
    encoder_neighbours,
    first_neighbours,
    propose,
    rank_candidates,
)
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.retriever_names import BM25, ORACLE, RANDOM, model_of
from udr_training.feedback import FeedbackLM, FeedbackStore, OnProgress, candidate_pairs, score_pairs

# As in training: random candidates can be better than similar ones.
_RANDOM_SHARE = 0.5

# SQLite's name for a database in memory.
_IN_MEMORY = Path(":memory:")


class ComparedRetriever(Protocol):
    """A retriever in an evaluation."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def identity(self) -> Mapping[str, Json]:
        """What its demonstrations depend on, beside the task and the seed."""

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, nearest first; never the query or a copy of it."""


class NamedRetriever:
    """A retriever by its name: ``random``, ``bm25``, an encoder, or a run directory; with a seed of random choices.

    Raises:
        ConfigError: the run is not finished.
        ModelError: there is no encoder of that name.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self._seed = name, seed
        self._encoder = None if name in (RANDOM, BM25) else SentenceEncoder.load(model_of(name))

    @property
    def identity(self) -> dict[str, Json]:
        """What its demonstrations depend on, beside the task and the seed."""
        if self._encoder is None:
            return {"kind": self.name}
        return {"kind": "encoder", "model": self._encoder.fingerprint, "wording": ENCODER_WORDING}

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, nearest first; never the query or a copy of it."""
        candidates = CandidatePool(pool, self._seed)
        if self.name == RANDOM:
            return [candidates.drawn(query)[:count] for query in queries]
        neighbours = bm25_neighbours(pool) if self._encoder is None else encoder_neighbours(pool, self._encoder)
        nearest = candidates.nearest(queries, neighbours, count)
        # BM25 returns fewer for unknown words; the rest is drawn by seed.
        return [candidates.filled(query, rows, count) for query, rows in zip(queries, nearest, strict=True)]


def bm25_chance(pool: Pool, queries: Sequence[Row], count: int, seed: int) -> float:
    """Return the share of the demonstrations of ``bm25`` that are drawn by seed, since too few rows share a word."""
    candidates = CandidatePool(pool, seed)
    return chance_share(candidates, candidates.nearest(queries, bm25_neighbours(pool), count), count)


@dataclass(frozen=True)
class Oracle:
    """Shows the candidates with the highest scores, by the feedback that training uses.

    Attributes:
        lm: the language model, which scores and answers.
        config: has the number of candidates and of demonstrations before each.
        scores: the file of scores; None keeps them in memory.
        progress: called with the progress of scoring, by task.
    """

    lm: FeedbackLM
    config: EvaluationConfig
    scores: Path | None = None
    progress: OnProgress = lambda *_: None
    name: ClassVar[str] = ORACLE

    @property
    def identity(self) -> dict[str, Json]:
        """What its demonstrations depend on, beside the task, the language model and the seed."""
        return {
            "candidates": self.config.oracle_candidates,
            "random_share": _RANDOM_SHARE,
            "context": self.config.oracle_context,
        }

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, best first, ties by id."""
        config, lm, candidate_pool = self.config, self.lm, CandidatePool(pool, self.config.seed)
        neighbours = first_neighbours(pool)
        candidates = propose(candidate_pool, queries, neighbours, config.oracle_candidates, _RANDOM_SHARE)
        pairs = candidate_pairs(candidate_pool, queries, candidates, config.oracle_context)
        on_progress = partial(self.progress, f"{pool.task.name}, {ORACLE}")
        with FeedbackStore(self.scores or _IN_MEMORY, lm.fingerprint, lm.dtype, formatting.LM_WORDING) as store:
            scores = score_pairs(lm, store, pairs, on_progress)
        rows = {row.id: row for row in pool.rows}
        ranked = [
            rank_candidates(query.id, {id: scores[query.id, id] for id in candidates[query.id]}) for query in queries
        ]
        return [[rows[id] for id in example.candidates[:count]] for example in ranked]
