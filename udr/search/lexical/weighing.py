"""A query's words, weighted for the texts of one pool, or of several pools as if they were one."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udr.search.base import Mask


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A query, weighted for the searched texts."""

    weights: Mapping[str, float]  # inverse document frequency times count in the query, of words in the texts
    mean_length: float  # of the texts, in words


class WordSearch(Protocol):
    """Finds the texts that share words with a query; see ``BM25Search`` for what the methods return."""

    split: Callable[[str], list[str]]
    """Splits a text into words."""

    def __len__(self) -> int:
        """Return the number of texts."""

    def num_texts_with(self, words: Mapping[str, object], rows: Mask | None = None) -> dict[str, int]:
        """Return how many texts contain each word."""

    def size(self, rows: Mask | None = None) -> tuple[int, int]:
        """Return the numbers of texts and words."""

    def nearest(self, query: WordQuery, k: int, rows: Mask | None = None) -> list[tuple[int, float]]:
        """Return the best texts."""

    def word_scores(self, query: WordQuery, words: Sequence[str], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return each word's part of the scores."""


def weigh(query: str, searches: Sequence[WordSearch], rows: Sequence[Mask | None] | None = None) -> WordQuery:
    """Return a query weighted for the texts of all these searches together; they split words by one rule.

    ``rows`` are, for each search, the texts that may be returned: the others count as if they were not there.
    """
    rows = rows or [None] * len(searches)
    sizes = [search.size(mask) for search, mask in zip(searches, rows, strict=True)]
    num_texts, num_words = (sum(size[part] for size in sizes) for part in (0, 1))
    counts = Counter(searches[0].split(query) if searches else ())
    frequencies = Counter[str]()
    for search, mask in zip(searches, rows, strict=True):
        frequencies.update(search.num_texts_with(counts, mask))
    weights = {
        word: times * math.log(1 + (num_texts - frequencies[word] + 0.5) / (frequencies[word] + 0.5))
        for word, times in counts.items()
        if frequencies[word]
    }
    return WordQuery(weights, num_words / max(1, num_texts))
