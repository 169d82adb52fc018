"""The cache of query vectors."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from udr.models import Encoder
from udr.search import Vectors
from udr_service.observability import Metrics

PROBE = "Is anybody there?"
"""The input of the query that checks whether the service can answer. Its vector is never cached."""


class CachingEncoder:
    """An encoder that encodes equal queries of a batch once, and keeps the vectors of recent queries.

    Even with ``size`` 0 it keeps the last batch's vectors, so that a query that arrives while an equal one is being
    encoded is not encoded again. Not thread-safe, like every encoder.

    Args:
        encoder: encodes what is not cached.
        size: how many vectors to keep, those used last.
        metrics: count hits, duplicates within a batch, and misses.
    """

    def __init__(self, encoder: Encoder, size: int, metrics: Metrics) -> None:
        self._encoder, self._size, self._metrics = encoder, size, metrics
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dimension, self.metric = encoder.dimension, encoder.metric

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""
        distinct = dict.fromkeys(texts)
        missing = [text for text in distinct if text not in self._cache]
        self._metrics.cache_looked_up(
            hit=len(distinct) - len(missing), duplicate=len(texts) - len(distinct), miss=len(missing)
        )
        if missing:
            # Copied, so that a cached vector does not keep its whole batch in memory.
            encoded = self._encoder.encode_queries(missing)
            self._cache |= {text: vector.copy() for text, vector in zip(missing, encoded, strict=True)}
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for position, text in enumerate(texts):
            vectors[position] = self._cache[text]
            self._cache.move_to_end(text)
        for text in distinct:
            if text.endswith(PROBE):
                del self._cache[text]
        while len(self._cache) > max(self._size, len(distinct)):
            self._cache.popitem(last=False)
        return vectors

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]; they are not cached."""
        return self._encoder.encode_demonstrations(texts)
