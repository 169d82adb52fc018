"""Postings: which texts contain each word, and how often; built in memory, or mapped from files that may be damaged."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, reason
from udr.files import read_bytes
from udr.search.arrays import open_array, refuse_truncated

_WORDS = "words.json"
_LARGEST = 1 << 30
"""The largest file of words, in bytes."""

_ARRAYS = ("lengths", "starts", "texts", "times")
"""The names of the arrays, and of their files. Entries ``starts[n]`` to ``starts[n + 1]`` of the last two belong to
word ``n``: the positions of the texts that contain it, ascending, and how often each does."""


class Postings:
    """The texts that contain each word.

    Args:
        words: the words.
        arrays: as ``_ARRAYS`` names them.
        folder: where they lie, if they are mapped.

    Attributes:
        numbers: the number of each word.
        lengths: int32 [num_texts], of the texts, in words.
        num_words: the sum of these.
    """

    def __init__(self, words: Sequence[str], arrays: Sequence[NDArray[Any]], folder: Path | None = None) -> None:
        self.numbers = {word: number for number, word in enumerate(words)}
        self._folder, self._mapped = folder, () if folder is None else arrays
        # As plain arrays, whose slices take less time.
        self.lengths, self._starts, self._texts, self._times = map(np.asarray, arrays)
        self.num_words = int(self.lengths.sum())

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> "Postings":
        """Return the postings of texts, each split into words; equal texts give equal files."""
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
        starts = np.concatenate([[0], np.cumsum(np.bincount(entries, minlength=len(words)))])
        positions = np.repeat(np.arange(len(lengths), dtype=np.int32), np.array(sizes, np.int32))[order]
        return cls(words, (np.array(lengths, np.int32), starts, positions, np.array(times, np.int32)[order]))

    def save(self, folder: Path) -> None:
        """Write the postings to a new folder."""
        folder.mkdir()
        (folder / _WORDS).write_text(json.dumps(list(self.numbers), ensure_ascii=False), "utf-8")
        for name, values in zip(_ARRAYS, (self.lengths, self._starts, self._texts, self._times), strict=True):
            np.save(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path) -> "Postings":
        """Open saved postings, memory-mapped; ``ArtifactError`` if they cannot be read."""
        arrays = [open_array(folder / f"{name}.npy") for name in _ARRAYS]
        try:
            words = json.loads(read_bytes(folder / _WORDS, _LARGEST))
            _check(words, arrays)
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{folder}: cannot be read ({reason(error)}); run: udr index verify") from error
        return cls(words, arrays, folder)

    def refuse_truncated(self) -> None:
        """Raise an ``ArtifactError`` if a file has become too short to be read."""
        for mapped in self._mapped:
            refuse_truncated(mapped)

    def spans(self, words: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the entries of words, given by number, start and stop; ``ArtifactError`` if that is nowhere."""
        starts, stops = self._starts[words], self._starts[words + 1]
        if (starts < 0).any() or (stops < starts).any() or (stops > len(self._texts)).any():
            raise self._damaged()
        return starts, stops

    def texts(self, entries: slice | NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the positions of the texts of these entries; ``ArtifactError`` if there are no such texts."""
        texts = self._texts[entries]
        if len(texts) and not 0 <= texts.min() <= texts.max() < len(self.lengths):
            raise self._damaged()
        return texts

    def times(self, entries: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return how often the texts of these entries contain the word; ``ArtifactError`` if they do not."""
        times = self._times[entries]
        if len(times) and times.min() <= 0:
            raise self._damaged()
        return times

    def among(self, word: int, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the indices of those positions whose texts contain a word, given by number, and how often each does.

        Raises:
            ArtifactError: the files are damaged.
        """
        (start,), (stop,) = self.spans(np.array([word]))
        # They are in ascending order.
        texts = self._texts[start:stop]
        if len(texts) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        places = np.minimum(np.searchsorted(texts, positions), len(texts) - 1)
        indices = np.flatnonzero(texts[places] == positions)
        return indices, self.times(start + places[indices])

    def _damaged(self) -> ArtifactError:
        return ArtifactError(f"{self._folder}: names texts that do not exist; run: udr index verify")


def _check(words: object, arrays: Sequence[NDArray[Any]]) -> None:
    """Raise ``ValueError`` unless words and arrays fit together; positions are checked when they are read."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{_WORDS} must be a list of words")
    lengths, starts, texts, times = arrays
    if [array.dtype.str for array in arrays] != ["<i4", "<i8", "<i4", "<i4"] or any(array.ndim > 1 for array in arrays):
        raise ValueError("its arrays have other types or dimensions")
    if len(set(words)) != len(words) or len(starts) != len(words) + 1 or len(texts) != len(times):
        raise ValueError(f"{_WORDS} and its arrays have different sizes")
    if (len(lengths) and lengths.min() < 0) or (words and not lengths.any()):
        raise ValueError("its texts have no lengths")
