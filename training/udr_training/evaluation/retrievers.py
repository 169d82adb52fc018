"""The retrievers that an evaluation compares: random, BM25, an encoder, a run, the oracle."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from udr.data import ENCODER_WORDING, Pool, formatting
from udr.models import SentenceEncoder
from udr.types import Json, Row
from udr_training.candidates import (
    CandidatePool,
    Neighbours,
    bm25_neighbours,
    encoder_neighbours,
    first_neighbours,
    propose,
    rank_candidates,
)
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.retriever_names import BM25, ORACLE, RANDOM, model_of
from udr_training.feedback import FeedbackLM, FeedbackStore, Progress, candidate_pairs, score_pairs


class ComparedRetriever(Protocol):
    """What a retriever is to an evaluation."""

    @property
    def name(self) -> str:
        """The name it was asked for by."""

    @property
    def identity(self) -> Mapping[str, Json]:
        """What its choice depends on, beside the task and the seed."""

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, nearest first; never the query or a copy of it."""


class NamedRetriever:
    """A retriever by the name it was asked for: ``random``, ``bm25``, a model's name, or a run directory.

    Args:
        name: the name.
        seed: of random choices.

    Raises:
        ConfigError: a run directory holds no finished model.
        ModelError: the name leads to no encoder.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self._seed = name, seed
        self._encoder = None if name in (RANDOM, BM25) else SentenceEncoder.load(model_of(name))

    @property
    def identity(self) -> dict[str, Json]:
        """What its choice depends on, beside the task and the seed."""
        if self._encoder is None:
            return {"kind": self.name}
        return {"kind": "encoder", "model": self._encoder.fingerprint, "wording": ENCODER_WORDING}

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, nearest first; never the query or a copy of it."""
        others = CandidatePool(pool, self._seed)
        if self.name == RANDOM:
            return [others.drawn(query)[:count] for query in queries]
        found = others.nearest(queries, self._neighbours(pool), count)
        # BM25 knows no row for unknown words; what is missing is drawn by seed.
        return [others.filled(query, rows, count) for query, rows in zip(queries, found, strict=True)]

    def _neighbours(self, pool: Pool) -> Neighbours:
        return bm25_neighbours(pool) if self._encoder is None else encoder_neighbours(pool, self._encoder)


def load_retrievers(
    config: EvaluationConfig,
    lm: FeedbackLM,
    scores: Path | None = None,
    progress: Callable[[str, Progress], None] = lambda *_: None,
) -> list[ComparedRetriever]:
    """Return the retrievers in the order asked for.

    Args:
        config: names them.
        lm: what the oracle asks.
        scores: where the oracle's scores are kept; None keeps them nowhere.
        progress: told about the oracle's scoring, by task.

    Raises:
        ConfigError: a run directory holds no finished model.
        ModelError: a name leads to no encoder.
    """
    return [
        Oracle(lm, config, scores, progress) if name == ORACLE else NamedRetriever(name, config.seed)
        for name in config.retrievers
    ]


_RANDOM_SHARE = 0.5
"""The share of random candidates, as in training: if all were similar, none could be better."""

# SQLite's own name for a database that is kept nowhere.
_NOWHERE = Path(":memory:")


class Oracle:
    """Shows the candidates with the highest scores, by the feedback that training learns from.

    Args:
        lm: scores them; the language model that answers.
        config: how many candidates, and what stands before them.
        scores: where their scores are kept; None keeps them nowhere.
        progress: told about the scoring, by task.
    """

    name = ORACLE

    def __init__(
        self,
        lm: FeedbackLM,
        config: EvaluationConfig,
        scores: Path | None = None,
        progress: Callable[[str, Progress], None] = lambda *_: None,
    ) -> None:
        self._lm, self._config, self._scores, self._progress = lm, config, scores or _NOWHERE, progress

    @property
    def identity(self) -> dict[str, Json]:
        """What its choice depends on, beside the task, the language model and the seed."""
        config = self._config
        return {
            "candidates": config.oracle_candidates,
            "random_share": _RANDOM_SHARE,
            "context": config.oracle_context,
        }

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, best first, ties by id."""
        others = CandidatePool(pool, self._config.seed)
        neighbours = first_neighbours(pool)
        candidates = propose(others, queries, neighbours, self._config.oracle_candidates, _RANDOM_SHARE)
        rows = {row.id: row for row in pool.rows}
        pairs = candidate_pairs(others, queries, candidates, self._config.oracle_context)
        lm = self._lm
        with FeedbackStore(self._scores, lm.fingerprint, lm.dtype, formatting.LM_WORDING) as store:
            scores = score_pairs(
                lm, store, pairs, lambda progress: self._progress(f"{pool.task.name}, {ORACLE}", progress)
            )
        ranked = [
            rank_candidates(query.id, {id: scores[query.id, id] for id in candidates[query.id]}) for query in queries
        ]
        return [[rows[id] for id in best_first.candidates[:count]] for best_first in ranked]
