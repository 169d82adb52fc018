"""The greedy choice of a set among hits: a pure function of what ranks them, their vectors, words and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.retrieval.stopping import Stopped, never, refuse_stopped
from udr.search import DECIMALS


@dataclass(frozen=True, slots=True)
class Aspects:
    """What hits may cover of a query.

    Attributes:
        words: float64 [num_hits, num_words], how much of each of the query's words a hit has: the word's part of its
            BM25 score.
        chances: float64 [num_hits], the probability that the query has the hit's label; 0 without a label head.
        codes: int64 [num_hits], the number of the hit's label, from 0.
    """

    words: NDArray[np.float64]
    chances: NDArray[np.float64]
    codes: NDArray[np.int64]


def choose(
    scores: NDArray[np.float64],
    left: Sequence[int],
    k: int,
    *,
    diversity: float = 0.0,
    coverage: float = 0.0,
    vectors: NDArray[np.floating] | None = None,
    aspects: Aspects | None = None,
    labels: Sequence[str] | None = None,
    stopped: Stopped = never,
) -> dict[int, str]:
    """Return the indices of up to k of the hits that are left, in the order of choice, and why each was chosen.

    A hit's worth is (1 - diversity) times the number that ranks it, minus diversity times its highest similarity to
    a hit already chosen: maximal marginal relevance (Carbonell and Goldstein, 1998). The first is the nearest. With
    labels, each round takes the worthiest hit of each label that has any left.

    With aspects, the worth is (1 - coverage) times that, plus coverage times what the hit adds to the set S of those
    already chosen::

        sum over words w of max(0, c(w, hit) - max over s in S of c(w, s)) / sum over w of max over hits of c(w, .)
        + p(label of the hit | query) / (1 + number of S with that label)

    c(w, hit) is the part of word w in the hit's BM25 score. The first term is the gain in set coverage of the query's
    words (Gupta, Gardner and Singh, 2023, with BM25 as the metric), so a hit that repeats what is covered adds nothing.
    The second hands out places by the label head's probabilities as d'Hondt's method hands out seats by votes. Both
    are submodular, so without diversity and with what ranks above 0, greedy choice reaches 1 - 1/e of the best set's
    value (Nemhauser, Wolsey and Fisher, 1978). Diversity compares whole vectors and knows no query; coverage compares
    what hits share with the query.

    Args:
        scores: the numbers that rank the hits, float64 [num_hits], descending.
        left: indices to choose from, ascending.
        k: how many.
        diversity: from 0, by similarity alone, to 1, by nothing but unlikeness to hits already chosen.
        coverage: from 0, by the above alone, to 1, by nothing but what hits add; only with aspects.
        vectors: [num_hits, dimension]; None chooses by similarity alone, whatever the diversity.
        aspects: what hits cover of the query; None ignores it.
        labels: one for each hit; None chooses without rounds.
        stopped: whether nobody waits for the choice any more; it then raises ``StoppedError``.
    """
    if vectors is None and labels is None and aspects is None:
        return {index: f"number {number}, {_reason()}" for number, index in enumerate(left[:k], start=1)}
    indices = np.asarray(left, dtype=np.int64)
    relevance, left_vectors = scores[indices], None if vectors is None else vectors[indices].astype(np.float64)
    free, closest = np.ones(len(indices), dtype=bool), np.full(len(indices), -np.inf)
    # Without labels each hit has its own, and one round takes all.
    names = [labels[index] for index in left] if labels is not None else [str(index) for index in left]
    codes = np.unique(names, return_inverse=True)[1].reshape(-1)
    covering = None if aspects is None else _Covering(aspects, indices)
    served, turn = np.zeros(len(indices), dtype=bool), 1
    chosen: dict[int, str] = {}
    while len(chosen) < k and free.any():
        refuse_stopped(stopped)
        eligible = free & ~served[codes]
        if not eligible.any():
            served[:], turn, eligible = False, turn + 1, free
        worth = relevance
        if chosen and left_vectors is not None:
            # Rounded, so that sums equal but for their last bits are ties.
            worth = np.round((1 - diversity) * relevance - diversity * closest, DECIMALS)
        added = None if covering is None else covering.gains()
        if added is not None:
            worth = np.round((1 - coverage) * worth + coverage * added, DECIMALS)
        best = int(np.where(eligible, worth, -np.inf).argmax())
        reason = f"number {len(chosen) + 1}, " + _reason(
            worth[best], closest[best], None if added is None else added[best]
        )
        chosen[int(indices[best])] = reason + (f", in round {turn} of {names[best]!r}" if labels else "")
        free[best], served[codes[best]] = False, True
        if left_vectors is not None:
            closest = np.maximum(closest, left_vectors @ left_vectors[best])
        if covering is not None:
            covering.take(best)
    return chosen


class _Covering:
    """What the hits left add to those taken; see ``choose``."""

    def __init__(self, aspects: Aspects, indices: NDArray[np.int64]) -> None:
        words = aspects.words[indices]
        total = words.max(axis=0, initial=0.0).sum()
        self._shares = words / total if total > 0 else words
        self._covered = np.zeros(words.shape[1])
        self._chances, self._codes = aspects.chances[indices], aspects.codes[indices]
        self._taken = np.zeros(int(aspects.codes.max(initial=0)) + 1)

    def gains(self) -> NDArray[np.float64]:
        """Return what each hit adds, from 0 to 2."""
        new: NDArray[np.float64] = np.maximum(self._shares - self._covered, 0.0).sum(axis=1)
        return new + self._chances / (1 + self._taken[self._codes])

    def take(self, row: int) -> None:
        """Take a hit."""
        self._covered = np.maximum(self._covered, self._shares[row])
        self._taken[self._codes[row]] += 1


def _reason(worth: float = 0.0, closest: float = -np.inf, added: float | None = None) -> str:
    adding = "" if added is None else f"worth {worth:.5f}, adding {added:.5f} to what those chosen before cover"
    if not np.isfinite(closest):
        return adding or "by its similarity"
    near = f"with at most {closest:.5f} similarity to those chosen before"
    return f"{adding}, {near}" if adding else f"worth {worth:.5f}, {near}"
