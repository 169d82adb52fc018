"""The cache: vectors of queries that came before."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udr.models import Encoder
from udr.search import Metric, Vectors


@dataclass(slots=True)
class Counts:
    """How often a query's vector was to be had without encoding.

    Attributes:
        hits: its text was encoded before, and is kept.
        shared: the same text was in the same batch.
        misses: it was encoded.
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0


class CachingEncoder:
    """An encoder that encodes a query's text once: within a batch, and as long as it is among the last ones.

    The last batch's vectors are kept even where ``size`` is 0, so that of equal texts in flight, one that came while
    another was being encoded is not encoded again.

    Used by one thread at a time, as every encoder is.

    Args:
        encoder: encodes what is not kept.
        size: how many vectors are kept; those that were used last.
        counts: takes down how often that helped.
    """

    def __init__(self, encoder: Encoder, size: int, counts: Counts) -> None:
        self._encoder, self._size, self._counts = encoder, size, counts
        self._kept: OrderedDict[str, Vectors] = OrderedDict()

    @property
    def name(self) -> str:
        """The model's name, as it was asked for."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """What stands for its weights, tokenizer, pooling and prompts."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """The width of its vectors."""
        return self._encoder.dimension

    @property
    def metric(self) -> Metric:
        """How its vectors are compared."""
        return self._encoder.metric

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""
        distinct = dict.fromkeys(texts)
        missing = [text for text in distinct if text not in self._kept]
        self._counts.misses += len(missing)
        self._counts.hits += len(distinct) - len(missing)
        self._counts.shared += len(texts) - len(distinct)
        if missing:
            # Copied, so that a vector that is kept does not keep its whole batch.
            encoded = self._encoder.encode_queries(missing)
            self._kept |= {text: vector.copy() for text, vector in zip(missing, encoded, strict=True)}
        found = np.empty((len(texts), self.dimension), dtype=np.float32)
        for place, text in enumerate(texts):
            found[place] = self._kept[text]
            self._kept.move_to_end(text)
        while len(self._kept) > max(self._size, len(distinct)):
            self._kept.popitem(last=False)
        return found

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]; none is kept."""
        return self._encoder.encode_demonstrations(texts)
