"""The one file that imports bm25s: lexical search among a pool's texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from udr.errors import ArtifactError, MissingExtraError, reason

try:
    import bm25s
except ImportError as error:
    raise MissingExtraError("bm25s", "index") from error

# One-letter words and single symbols count: labels, choices and code are full of them.
_WORD = r"(?u)\b\w+\b"


class BM25Search:
    """BM25 over texts, with rows that share no word with the query left out.

    Args:
        texts: the texts to search, in the order of their positions.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        tokens = self._tokens(texts)
        # Numbered in their own order, so that equal texts give equal files.
        numbers = {word: number for number, word in enumerate(sorted({word for words in tokens for word in words}))}
        self._index = bm25s.BM25() if numbers else None
        if self._index is not None:
            self._index.index(([[numbers[word] for word in words] for words in tokens], numbers), show_progress=False)

    def save(self, folder: Path) -> None:
        """Write the index to a new folder, which stays empty where no text has a word."""
        folder.mkdir()
        if self._index is not None:
            self._index.save(folder, show_progress=False)

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
        search._size = size
        if folder.is_dir() and not any(folder.iterdir()):
            return search
        try:
            search._index = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise ArtifactError(f"{folder}: cannot be read ({reason(error)}); run: udr index verify") from error
        found = search._index.scores["num_docs"]
        if found != size:
            raise ArtifactError(f"{folder}: is of {found} texts, {size} are expected; run: udr index verify")
        return search

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Return, for each query, at most k positions and BM25 scores, best first, ties by position.

        bm25s fills up with arbitrary rows of score 0 and refuses a k above its size; here neither is seen.
        """
        results: list[list[tuple[int, float]]] = []
        for tokens in self._tokens(queries):
            scores = self._scores(tokens)
            best = np.lexsort((np.arange(len(scores)), -scores))[:k]
            results.append([(int(position), float(scores[position])) for position in best if scores[position] > 0])
        return results

    def _scores(self, tokens: list[str]) -> np.ndarray:
        if self._index is None or not tokens:
            return np.zeros(self._size, dtype=np.float32)
        # The same sum in a different order differs in the last bits; rounding makes copies tie.
        scores: np.ndarray = self._index.get_scores(tokens)
        return np.round(scores, 4)

    @staticmethod
    def _tokens(texts: Sequence[str]) -> list[list[str]]:
        tokens = bm25s.tokenize(list(texts), token_pattern=_WORD, stopwords=[], return_ids=False, show_progress=False)
        return list(tokens)
