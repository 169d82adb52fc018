"""The one file that imports faiss. It owns contiguity, the metric, and the meaning of faiss' answers."""

import numpy as np
from numpy.typing import NDArray

from udr.encoder import Vectors
from udr.errors import MissingExtraError
from udr.search import Positions, Similarities, search_with

try:
    import faiss
except ImportError as error:
    raise MissingExtraError("faiss", "cpu") from error


class FaissSearch:
    """Exact search by inner product in a flat faiss index; equal to ``ExactSearch`` in ids, values and order."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``udr.search.Searcher.search``."""
        return search_with(self._propose, self._vectors, queries, k)

    def _propose(self, queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
        similarities, positions = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return similarities, positions
