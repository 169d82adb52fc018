"""BM25: search by words among the texts of one pool, or of several as if they were one.

A word's rarity and the mean length of texts belong to all that is searched, which a request decides. So an index keeps
how often words are in texts, and no scores; these are made from it at each search.
"""

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, reason
from udr.search.base import DECIMALS

K1, B = 1.5, 0.75
"""How soon more of one word counts no more, and how far a long text is marked down."""

# One-letter words and digits count: labels, choices and code are full of them.
_WORD = re.compile(r"\w+")
_WORDS = "words.json"


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A query, weighed for the texts that it is put to.

    Attributes:
        weights: of its words, once for each time it has them; those that no text holds are left out.
        mean_length: of the texts, in words.
    """

    weights: Mapping[str, float]
    mean_length: float


@dataclass(frozen=True, slots=True)
class _Postings:
    """Which texts hold a word: of word ``n`` what lies from ``starts[n]`` to before ``starts[n + 1]``.

    Attributes:
        lengths: of the texts, in words.
        starts: one more than there are words.
        texts: positions of texts, ascending for each word.
        times: how often that text holds the word.
    """

    lengths: NDArray[np.int32]
    starts: NDArray[np.int64]
    texts: NDArray[np.int32]
    times: NDArray[np.int32]


class BM25Search:
    """BM25 over texts, in Lucene's form; texts that share no word with the query are left out.

    Args:
        texts: the texts to search, in the order of their positions; one of them is in memory at a time.

    Attributes:
        num_words: of all texts together.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._open(*_postings(texts))

    def _open(self, words: list[str], postings: _Postings) -> None:
        self._words, self._postings = {word: number for number, word in enumerate(words)}, postings
        self.num_words = int(postings.lengths.sum())

    def save(self, folder: Path) -> None:
        """Write the index to a new folder."""
        folder.mkdir()
        (folder / _WORDS).write_text(json.dumps(list(self._words), ensure_ascii=False), "utf-8")
        for field in fields(_Postings):
            np.save(folder / f"{field.name}.npy", getattr(self._postings, field.name))

    @classmethod
    def load(cls, folder: Path, size: int) -> "BM25Search":
        """Open an index that was saved, its numbers mapped into memory.

        Args:
            folder: where it was saved.
            size: how many texts it was made of.

        Raises:
            ArtifactError: it holds something else.
        """
        search = cls(())
        try:
            arrays = {
                field.name: np.asarray(np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False))
                for field in fields(_Postings)
            }
            search._open(json.loads((folder / _WORDS).read_text("utf-8")), _Postings(**arrays))
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise ArtifactError(f"{folder}: cannot be read ({reason(error)}); run: udr index verify") from error
        if len(search) != size:
            raise ArtifactError(f"{folder}: is of {len(search)} texts, {size} are expected; run: udr index verify")
        return search

    def __len__(self) -> int:
        return len(self._postings.lengths)

    def holding(self, word: str) -> int:
        """Return how many texts hold a word."""
        start, stop = self._span(word)
        return stop - start

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Return, for each query, at most k positions and scores, best first, ties by position."""
        return [self.nearest(weigh(query, [self]), k) for query in queries]

    def nearest(self, query: WordQuery, k: int) -> list[tuple[int, float]]:
        """Return at most k positions and scores, rounded to 5 decimals, best first, ties by position."""
        scores = np.zeros(len(self))
        for word, weight in query.weights.items():
            span = slice(*self._span(word))
            texts, times = self._postings.texts[span], self._postings.times[span]
            lengths = self._postings.lengths[texts] / query.mean_length
            scores[texts] += weight * times / (times + K1 * (1 - B + B * lengths))
        found = np.flatnonzero(scores)
        rounded = np.round(scores[found], DECIMALS)
        best = np.argsort(-rounded, kind="stable")[:k]
        return list(zip(found[best].tolist(), rounded[best].tolist(), strict=True))

    def _span(self, word: str) -> tuple[int, int]:
        number = self._words.get(word)
        return (
            (0, 0) if number is None else (int(self._postings.starts[number]), int(self._postings.starts[number + 1]))
        )


def weigh(query: str, searches: Sequence[BM25Search]) -> WordQuery:
    """Return a query weighed for the texts of these searches, taken together."""
    num_texts, num_words = sum(map(len, searches)), sum(search.num_words for search in searches)
    weights: dict[str, float] = {}
    for word, times in Counter(_split(query)).items():
        holding = sum(search.holding(word) for search in searches)
        if holding:
            weights[word] = times * math.log(1 + (num_texts - holding + 0.5) / (holding + 0.5))
    return WordQuery(weights, num_words / max(1, num_texts))


def _split(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _postings(texts: Iterable[str]) -> tuple[list[str], _Postings]:
    """Return the words of texts in their own order, so that equal texts give equal files, and which hold them."""
    numbers: dict[str, int] = {}
    lengths, sizes, held, times = (array("i") for _ in range(4))
    for text in texts:
        said = Counter(_split(text))
        lengths.append(said.total())
        sizes.append(len(said))
        held.extend(numbers.setdefault(word, len(numbers)) for word in said)
        times.extend(said.values())
    words = sorted(numbers)
    places = np.empty(len(words), np.int32)
    places[[numbers[word] for word in words]] = np.arange(len(words))
    placed = places[np.array(held, np.int32)]
    # Stable, so that each word's texts stay in their order.
    order = np.argsort(placed, kind="stable")
    postings = _Postings(
        lengths=np.array(lengths, np.int32),
        starts=np.concatenate([[0], np.cumsum(np.bincount(placed, minlength=len(words)))]),
        texts=np.repeat(np.arange(len(lengths), dtype=np.int32), np.array(sizes, np.int32))[order],
        times=np.array(times, np.int32)[order],
    )
    return words, postings
