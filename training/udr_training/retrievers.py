"""The retrievers that an evaluation compares: random, BM25, an encoder, a run. Each gives positions in a pool."""

from collections.abc import Sequence
from pathlib import Path

from udr.encoder import SentenceEncoder
from udr.errors import ConfigError
from udr.pool import Pool
from udr.types import Row
from udr_training.candidates import Neighbours, Others, bm25_neighbours, encoder_neighbours


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
        others = Others(pool, self._seed)
        if self.name == "random":
            return [others.drawn(query)[:count] for query in queries]
        found = others.nearest(queries, self._neighbours(pool), count)
        # BM25 knows no row for unknown words; what is missing is drawn by seed.
        return [others.filled(query, rows, count) for query, rows in zip(queries, found, strict=True)]

    def _neighbours(self, pool: Pool) -> Neighbours:
        return bm25_neighbours(pool) if self._encoder is None else encoder_neighbours(pool, self._encoder)


def _model_of(name: str) -> str:
    """Return the model that a run ended with, or the name itself where it is no run directory."""
    folder = Path(name).expanduser()
    if not (folder / "config.toml").is_file():
        return name
    if not (folder / "model").is_dir():
        raise ConfigError(f"{name} is a run that is not finished; start `udr train` again with --out {name}")
    return str(folder / "model")
