"""BM25 over the texts of one pool, or of several pools as if they were one.

Word rarity and mean length depend on the pools that a request searches, so the index stores word counts and each search
computes scores from them. Libraries that store scores cannot do this.
"""

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, reason
from udr.files import read_bytes
from udr.search.arrays import open_array, refuse_truncated
from udr.search.base import BLOCK, DECIMALS, Mask
from udr.search.words import RULE, RULES

K1, B = 1.5, 0.75
"""Term-frequency saturation and length normalisation, as in Robertson and Zaragoza (2009)."""

_FILE = "words.json"
_LARGEST = 1 << 30
"""The largest file of words, in bytes."""


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A query, weighted for the searched texts."""

    weights: Mapping[str, float]  # inverse document frequency times count in the query, of words in the texts
    mean_length: float  # of the texts, in words


@dataclass(frozen=True, slots=True)
class _Postings:
    """The texts that contain each word: entries ``starts[n]`` to ``starts[n + 1]`` belong to word ``n``."""

    lengths: NDArray[np.int32]  # of the texts, in words
    starts: NDArray[np.int64]  # one more entry than there are words
    texts: NDArray[np.int32]  # positions of texts, ascending for each word
    times: NDArray[np.int32]  # the word's count in that text


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


class BM25Search:
    """BM25 in Lucene's variant; texts that share no word with the query are not returned.

    Args:
        texts: the texts in the order of their positions; read one at a time.
        rule: how texts and queries are split into words, one of ``RULES``.
    """

    def __init__(self, texts: Iterable[str], rule: str = RULE) -> None:
        self.split = RULES[rule]
        self._folder: Path | None = None
        self._mapped: Sequence[NDArray[Any]] = ()
        self._open(*_postings(map(self.split, texts)))

    def _open(self, words: list[str], postings: _Postings) -> None:
        self._words, self._postings = {word: number for number, word in enumerate(words)}, postings
        self.num_words = int(postings.lengths.sum())

    def save(self, folder: Path) -> None:
        """Write the index to a new folder."""
        folder.mkdir()
        (folder / _FILE).write_text(json.dumps(list(self._words), ensure_ascii=False), "utf-8")
        for field in fields(_Postings):
            np.save(folder / f"{field.name}.npy", getattr(self._postings, field.name))

    @classmethod
    def load(cls, folder: Path, size: int, rule: str = RULE) -> "BM25Search":
        """Open a saved index of ``size`` texts, split by ``rule``, memory-mapped.

        Raises:
            ArtifactError: the folder cannot be read or has another number of texts.
        """
        search = cls((), rule)
        # The first text that is not ASCII prepares tables; a request would wait for them.
        search.split("\u00e9")
        arrays = [open_array(folder / f"{field.name}.npy") for field in fields(_Postings)]
        try:
            words = json.loads(read_bytes(folder / _FILE, _LARGEST))
            _check(words, arrays)
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{folder}: cannot be read ({reason(error)}); run: udr index verify") from error
        search._folder, search._mapped = folder, arrays
        # As plain arrays, whose slices take less time.
        search._open(words, _Postings(*map(np.asarray, arrays)))
        if len(search) != size:
            raise ArtifactError(f"{folder}: holds {len(search)} texts, expected {size}; run: udr index verify")
        return search

    def __len__(self) -> int:
        return len(self._postings.lengths)

    def num_texts_with(self, words: Mapping[str, object], rows: Mask | None = None) -> dict[str, int]:
        """Return the number of texts, among ``rows``, that contain each of these words that any text contains."""
        self._refuse_truncated()
        found = list(words.keys() & self._words.keys())
        numbers = np.array([self._words[word] for word in found], np.int64)
        starts, stops = self._spans(numbers)
        if rows is None:
            return dict(zip(found, (stops - starts).tolist(), strict=True))
        spans = zip(found, starts.tolist(), stops.tolist(), strict=True)
        return {word: int(np.count_nonzero(rows[self._texts(slice(start, stop))])) for word, start, stop in spans}

    def size(self, rows: Mask | None = None) -> tuple[int, int]:
        """Return how many texts there are among ``rows``, and how many words they have."""
        if rows is None:
            return len(self), self.num_words
        self._refuse_truncated()
        return int(np.count_nonzero(rows)), int(self._postings.lengths[rows].sum())

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Return, for each query, at most k positions and scores, best first, ties by position."""
        return [self.nearest(weigh(query, [self]), k) for query in queries]

    def nearest(self, query: WordQuery, k: int, rows: Mask | None = None) -> list[tuple[int, float]]:
        """Return at most k positions, among ``rows``, and scores, rounded to 5 decimals, best first, ties by position.

        Raises:
            ArtifactError: a file has been damaged since it was opened.
        """
        self._refuse_truncated()
        found = [(self._words[word], weight) for word, weight in query.weights.items() if word in self._words]
        if not found:
            return []
        words, weights = np.array([word for word, _ in found], np.int64), np.array([weight for _, weight in found])
        starts, stops = self._spans(words)
        sizes = stops - starts
        scores, ends = np.zeros(len(self)), np.cumsum(sizes)
        # In blocks, since a long query may have many words, each in many texts.
        cuts = np.searchsorted(ends, np.arange(BLOCK, int(sizes.sum()), BLOCK))
        for block in np.split(np.arange(len(words)), np.unique(cuts)):
            firsts = starts[block] - np.cumsum(sizes[block]) + sizes[block]
            entries = np.repeat(firsts, sizes[block]) + np.arange(int(sizes[block].sum()))
            texts, times = self._texts(entries), self._postings.times[entries]
            if len(times) and times.min() <= 0:
                raise self._damaged()
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
        self._refuse_truncated()
        parts = np.zeros((len(positions), len(words)))
        if not words:
            # Texts without words have a mean length of 0.
            return parts
        lengths = self._postings.lengths[positions] / query.mean_length
        for column, word in enumerate(words):
            if word not in self._words:
                continue
            (start,), (stop,) = self._spans(np.array([self._words[word]]))
            texts, times = self._postings.texts[start:stop], self._postings.times[start:stop]
            if len(texts) == 0:
                continue
            # The texts of a word are in ascending order.
            places = np.minimum(np.searchsorted(texts, positions), len(texts) - 1)
            rows = np.flatnonzero(texts[places] == positions)
            found = times[places[rows]]
            if (found <= 0).any():
                raise self._damaged()
            parts[rows, column] = _parts(query.weights[word], found, lengths[rows])
        return parts

    def _refuse_truncated(self) -> None:
        for mapped in self._mapped:
            refuse_truncated(mapped)

    def _texts(self, entries: slice | NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the positions of texts that these entries of the postings hold."""
        texts = self._postings.texts[entries]
        if len(texts) and not 0 <= texts.min() <= texts.max() < len(self):
            raise self._damaged()
        return texts

    def _spans(self, words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the texts of words start and stop."""
        starts, stops = self._postings.starts[words], self._postings.starts[words + 1]
        if (starts < 0).any() or (stops < starts).any() or (stops > len(self._postings.texts)).any():
            raise self._damaged()
        return starts, stops

    def _damaged(self) -> ArtifactError:
        return ArtifactError(f"{self._folder}: names texts that do not exist; run: udr index verify")


def _check(words: object, arrays: Sequence[NDArray[Any]]) -> None:
    """Raise ``ValueError`` unless words and arrays fit together; positions are checked when they are read."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{_FILE} must be a list of words")
    lengths, starts, texts, times = arrays
    if [array.dtype.str for array in arrays] != ["<i4", "<i8", "<i4", "<i4"] or any(array.ndim > 1 for array in arrays):
        raise ValueError("its arrays have other types or dimensions")
    if len(set(words)) != len(words) or len(starts) != len(words) + 1 or len(texts) != len(times):
        raise ValueError(f"{_FILE} and its arrays have different sizes")
    if (len(lengths) and lengths.min() < 0) or (words and not lengths.any()):
        raise ValueError("its texts have no lengths")


def _parts(
    weights: float | NDArray[np.float64], times: NDArray[np.integer], lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what words that texts contain so many times add to their scores; lengths are relative to the mean."""
    parts: NDArray[np.float64] = weights * times / (times + K1 * (1 - B + B * lengths))
    return parts


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


def _postings(texts: Iterable[list[str]]) -> tuple[list[str], _Postings]:
    """Return the words of texts, sorted so that equal texts give equal files, and their postings."""
    numbers: dict[str, int] = {}
    lengths, sizes, occurrences, times = (array("i") for _ in range(4))
    for text in texts:
        counts = Counter(text)
        lengths.append(counts.total())
        sizes.append(len(counts))
        occurrences.extend(numbers.setdefault(word, len(numbers)) for word in counts)
        times.extend(counts.values())
    words = sorted(numbers)
    sorted_numbers = np.empty(len(words), np.int32)
    sorted_numbers[[numbers[word] for word in words]] = np.arange(len(words))
    entries = sorted_numbers[np.array(occurrences, np.int32)]
    # Stable, so that each word's texts stay in order.
    order = np.argsort(entries, kind="stable")
    postings = _Postings(
        lengths=np.array(lengths, np.int32),
        starts=np.concatenate([[0], np.cumsum(np.bincount(entries, minlength=len(words)))]),
        texts=np.repeat(np.arange(len(lengths), dtype=np.int32), np.array(sizes, np.int32))[order],
        times=np.array(times, np.int32)[order],
    )
    return words, postings
