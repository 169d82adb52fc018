"""Searches joined: the rows of a published version, followed by those written since, as one search.

Each part returns its own k best, ties by id, so the k best of all by similarity and then by id are among the results;
these are not merged, since only the few that count need their ids read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from udr.search import LabelledSearch, Mask, Searcher, Vectors, WordQuery, WordSearch, refuse_truncated

Results = tuple[NDArray[np.int64], NDArray[np.float64]]


class JoinedVectors:
    """The vectors of two parts, one after the other, read where they are; it has what searches use of an array."""

    def __init__(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> None:
        self._first, self._second = first, second
        self.shape, self.dtype = (len(first) + len(second), first.shape[1]), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: "slice | Sequence[int] | NDArray[np.integer]") -> NDArray[np.floating]:
        refuse_truncated(self._first)
        positions = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        result = np.empty((*positions.shape, self.shape[1]), self.dtype)
        later = positions >= len(self._first)
        result[~later] = self._first[positions[~later]]
        result[later] = self._second[positions[later] - len(self._first)]
        return result


class JoinedSearch:
    """Searches two parts; see ``udr.search.Searcher``, except that up to k results of each part are returned."""

    def __init__(self, first: Searcher, second: Searcher) -> None:
        self._first, self._second, self._size = first, second, len(first)
        self.vectors = cast("NDArray[np.floating]", JoinedVectors(first.vectors, second.vectors))

    def __len__(self) -> int:
        return self._size + len(self._second)

    def search(self, queries: Vectors, k: int, rows: Mask | None = None) -> Results:
        """Return the k nearest of each part."""
        of_first, of_second = _split(rows, self._size)
        positions, similarities = self._first.search(queries, k, of_first)
        more, values = self._second.search(queries, k, of_second)
        return np.hstack([positions, more + self._size]), np.hstack([similarities, values])


def join_labelled(first: LabelledSearch, second: LabelledSearch) -> LabelledSearch:
    """Return the search of two parts that have one label head, with its codes of the rows of both."""
    codes = np.concatenate([first.head.codes, second.head.codes])
    head = replace(first.head, codes=codes)
    return LabelledSearch(JoinedSearch(first, second), JoinedSearch(first.labelled, second.labelled), head)


class JoinedWords:
    """BM25 over two parts; see ``udr.search.WordSearch``, except that up to k texts of each part are returned."""

    def __init__(self, first: WordSearch, second: WordSearch) -> None:
        self._first, self._second, self._size = first, second, len(first)
        self.split = first.split

    def __len__(self) -> int:
        return self._size + len(self._second)

    def num_texts_with(self, words: Mapping[str, object], rows: Mask | None = None) -> dict[str, int]:
        """Return the number of texts, among ``rows``, that contain each of these words that any text contains."""
        of_first, of_second = _split(rows, self._size)
        counts = self._first.num_texts_with(words, of_first)
        for word, count in self._second.num_texts_with(words, of_second).items():
            counts[word] = counts.get(word, 0) + count
        return counts

    def size(self, rows: Mask | None = None) -> tuple[int, int]:
        """Return how many texts there are among ``rows``, and how many words they have."""
        of_first, of_second = _split(rows, self._size)
        first, second = self._first.size(of_first), self._second.size(of_second)
        return first[0] + second[0], first[1] + second[1]

    def nearest(self, query: WordQuery, k: int, rows: Mask | None = None) -> list[tuple[int, float]]:
        """Return at most k positions of each part, and scores."""
        of_first, of_second = _split(rows, self._size)
        more = self._second.nearest(query, k, of_second)
        return self._first.nearest(query, k, of_first) + [(at + self._size, score) for at, score in more]

    def word_scores(self, query: WordQuery, words: Sequence[str], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the part of each of a query's words in the scores of texts, [len(positions), len(words)]."""
        scores, later = np.zeros((len(positions), len(words))), positions >= self._size
        scores[~later] = self._first.word_scores(query, words, positions[~later])
        scores[later] = self._second.word_scores(query, words, positions[later] - self._size)
        return scores


def _split(rows: Mask | None, size: int) -> tuple[Mask | None, Mask | None]:
    return (None, None) if rows is None else (rows[:size], rows[size:])
