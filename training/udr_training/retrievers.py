"""The retrievers that an evaluation compares: random, BM25, an encoder, a run. Each gives positions in a pool."""

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from udr import text
from udr.encoder import SentenceEncoder
from udr.errors import ConfigError
from udr.pool import Pool
from udr.types import Row
from udr_training.candidates import Neighbours, bm25_neighbours, encoder_neighbours


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
        self._encoder = None if name in ("random", "bm25") else SentenceEncoder.load(_model_of(name))

    def demonstrations(self, pool: Pool, queries: Sequence[Row], count: int) -> list[list[Row]]:
        """Return at most ``count`` demonstrations for each query, nearest first; never the query or a copy of it."""
        keys = [_copy_key(pool, row) for row in pool.rows]
        # Copies of the query take places; if more than 8 of them do, fewer demonstrations come back.
        found = self._neighbours(pool)(queries, min(len(pool), count + 8))
        answers = []
        for query, places in zip(queries, found, strict=True):
            own = _copy_key(pool, query)
            # BM25 knows no row for unknown words; what is missing is drawn by seed.
            drawn = self._shuffled(pool, query) if len(places) < count + 8 else []
            kept = [place for place in dict.fromkeys([*places, *drawn]) if keys[place] != own]
            answers.append([pool.rows[place] for place in kept[:count]])
        return answers

    def _neighbours(self, pool: Pool) -> Neighbours:
        if self._encoder is not None:
            return encoder_neighbours(pool, self._encoder)
        if self.name == "bm25":
            return bm25_neighbours(pool)
        return lambda queries, count: [self._shuffled(pool, query)[:count] for query in queries]

    def _shuffled(self, pool: Pool, query: Row) -> list[int]:
        digest = hashlib.sha256(f"{self._seed}:{pool.task.name}:{query.id}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8])).sample(range(len(pool)), len(pool))


def _copy_key(pool: Pool, row: Row) -> str:
    return text.normalised(text.input_text(pool.task, row.input, row.choices))


def _model_of(name: str) -> str:
    """Return the model that a run ended with, or the name itself where it is no run directory."""
    folder = Path(name).expanduser()
    if not (folder / "config.toml").is_file():
        return name
    if not (folder / "model").is_dir():
        raise ConfigError(f"{name} is a run that is not finished; start `udr train` again with --out {name}")
    return str(folder / "model")
