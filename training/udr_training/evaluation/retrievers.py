"""The retrievers that an evaluation compares: random, BM25, an encoder, a run, the oracle."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from udr.encoder import SentenceEncoder
from udr.pool import Pool
from udr.text import ENCODER_WORDING
from udr.types import Json, Row
from udr_training.candidates import Neighbours, Others, bm25_neighbours, encoder_neighbours
from udr_training.evaluation.config import EvaluationConfig
from udr_training.evaluation.names import BM25, ORACLE, RANDOM, model_of
from udr_training.evaluation.oracle import Oracle
from udr_training.feedback.scoring import FeedbackLM, Progress


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
        others = Others(pool, self._seed)
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
