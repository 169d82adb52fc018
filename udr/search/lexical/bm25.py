"""BM25 over the texts of one pool.

Word rarity and mean length depend on the pools that a request searches, so the index stores word counts and each search
computes scores from them. Libraries that store scores cannot do this.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError
from udr.search.base import BLOCK, DECIMALS, Mask
from udr.search.lexical.postings import Postings
from udr.search.lexical.weighing import WordQuery, weigh
from udr.search.lexical.words import RULE, RULES

K1, B = 1.5, 0.75
"""Term-frequency saturation and length normalisation, as in Robertson and Zaragoza (2009)."""


class BM25Search:
    """BM25 in Lucene's variant; texts that share no word with the query are not returned.

    Args:
        texts: the texts in the order of their positions; read one at a time.
        rule: how texts and queries are split into words, one of ``RULES``.
    """

    def __init__(self, texts: Iterable[str], rule: str = RULE) -> None:
        self.split = RULES[rule]
        self._postings = Postings.of(map(self.split, texts))

    def save(self, folder: Path) -> None:
        """Write the index to a new folder."""
        self._postings.save(folder)

    @classmethod
    def load(cls, folder: Path, size: int, rule: str = RULE) -> "BM25Search":
        """Open a saved index of ``size`` texts, split by ``rule``, memory-mapped.

        Raises:
            ArtifactError: the folder cannot be read or has another number of texts.
        """
        search = cls((), rule)
        # The first text that is not ASCII prepares tables; a request would wait for them.
        search.split("\u00e9")
        search._postings = Postings.load(folder)
        if len(search) != size:
            raise ArtifactError(f"{folder}: holds {len(search)} texts, expected {size}; run: udr index verify")
        return search

    def __len__(self) -> int:
        return len(self._postings.lengths)

    def num_texts_with(self, words: Mapping[str, object], rows: Mask | None = None) -> dict[str, int]:
        """Return the number of texts, among ``rows``, that contain each of these words that any text contains."""
        self._postings.refuse_truncated()
        numbers = self._postings.numbers
        found = list(words.keys() & numbers.keys())
        starts, stops = self._postings.spans(np.array([numbers[word] for word in found], np.int64))
        if rows is None:
            return dict(zip(found, (stops - starts).tolist(), strict=True))
        texts = map(self._postings.texts, map(slice, starts.tolist(), stops.tolist()))
        return {word: int(np.count_nonzero(rows[own])) for word, own in zip(found, texts, strict=True)}

    def size(self, rows: Mask | None = None) -> tuple[int, int]:
        """Return how many texts there are among ``rows``, and how many words they have."""
        if rows is None:
            return len(self), self._postings.num_words
        self._postings.refuse_truncated()
        return int(np.count_nonzero(rows)), int(self._postings.lengths[rows].sum())

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Return, for each query, at most k positions and scores, best first, ties by position."""
        return [self.nearest(weigh(query, [self]), k) for query in queries]

    def nearest(self, query: WordQuery, k: int, rows: Mask | None = None) -> list[tuple[int, float]]:
        """Return at most k positions, among ``rows``, and scores, rounded to 5 decimals, best first, ties by position.

        Raises:
            ArtifactError: a file has been damaged since it was opened.
        """
        self._postings.refuse_truncated()
        numbers = self._postings.numbers
        found = [(numbers[word], weight) for word, weight in query.weights.items() if word in numbers]
        if not found:
            return []
        words, weights = np.array([word for word, _ in found], np.int64), np.array([weight for _, weight in found])
        starts, stops = self._postings.spans(words)
        sizes = stops - starts
        scores, ends = np.zeros(len(self)), np.cumsum(sizes)
        # In blocks, since a long query may have many words, each in many texts.
        cuts = np.searchsorted(ends, np.arange(BLOCK, int(sizes.sum()), BLOCK))
        for block in np.split(np.arange(len(words)), np.unique(cuts)):
            firsts = starts[block] - np.cumsum(sizes[block]) + sizes[block]
            entries = np.repeat(firsts, sizes[block]) + np.arange(int(sizes[block].sum()))
            texts, times = self._postings.texts(entries), self._postings.times(entries)
            lengths = self._postings.lengths[texts] / query.mean_length
            values = _parts(np.repeat(weights[block], sizes[block]), times, lengths)
            np.add.at(scores, texts, values)
        matches = np.flatnonzero(scores if rows is None else scores * rows)
        rounded = np.round(scores[matches], DECIMALS)
        best = np.argsort(-rounded, kind="stable")[:k]
        return list(zip(matches[best].tolist(), rounded[best].tolist(), strict=True))

    def word_scores(self, query: WordQuery, words: Sequence[str], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the part of each of a query's words in the scores of texts, [len(positions), len(words)].

        A text's parts, over all words of the query, add up to its score in ``nearest``, which rounds it.

        Raises:
            ArtifactError: a file has been damaged since it was opened.
        """
        self._postings.refuse_truncated()
        parts = np.zeros((len(positions), len(words)))
        if not words:
            # Texts without words have a mean length of 0.
            return parts
        lengths = self._postings.lengths[positions] / query.mean_length
        for column, word in enumerate(words):
            if word in self._postings.numbers:
                rows, times = self._postings.among(self._postings.numbers[word], positions)
                parts[rows, column] = _parts(query.weights[word], times, lengths[rows])
        return parts


def _parts(
    weights: float | NDArray[np.float64], times: NDArray[np.integer], lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what words that texts contain so many times add to their scores; lengths are relative to the mean."""
    parts: NDArray[np.float64] = weights * times / (times + K1 * (1 - B + B * lengths))
    return parts
