"""The choice: which k of the candidates that are left, by similarity, diversity and label. A pure function."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.search import DECIMALS


@dataclass(frozen=True, slots=True)
class Chosen:
    """A candidate that was chosen.

    Attributes:
        place: its place among the candidates.
        reason: why it was, in words.
    """

    place: int
    reason: str


def choose(
    similarities: NDArray[np.float64],
    left: Sequence[int],
    k: int,
    *,
    diversity: float = 0.0,
    vectors: NDArray[np.float64] | None = None,
    labels: Sequence[str] | None = None,
) -> list[Chosen]:
    """Return up to k of the candidates that are left, in the order in which they are chosen.

    One is worth (1 - diversity) times its similarity to the query, less diversity times its similarity to the one
    chosen before that is most like it: maximal marginal relevance (Carbonell and Goldstein, 1998). The first is the
    nearest, as there is none before it. With labels, the choice goes in rounds, and a round takes one of each label
    that still has any: the one that is worth most among the labels whose turn it still is.

    Args:
        similarities: to the query, float64 [num_candidates], descending; equals in the order of ties.
        left: places that may be chosen, ascending.
        k: how many.
        diversity: from 0, by similarity alone, to 1, by nothing but being unlike what is chosen.
        vectors: float64 [num_candidates, dimension]; None goes by similarity alone, whatever the diversity.
        labels: one for each candidate; None does without rounds.
    """
    if vectors is None and labels is None:
        return [Chosen(place, f"number {number}, {_worth()}") for number, place in enumerate(left[:k], start=1)]
    places = np.asarray(left, dtype=np.int64)
    relevance, theirs = similarities[places], None if vectors is None else vectors[places]
    free, closest = np.ones(len(places), dtype=bool), np.full(len(places), -np.inf)
    # Without labels each candidate is the only one of its own, and all are taken in one round.
    names = [labels[place] for place in left] if labels is not None else [str(place) for place in left]
    label = np.unique(names, return_inverse=True)[1].reshape(-1)
    served, turn = np.zeros(len(places), dtype=bool), 1
    chosen: list[Chosen] = []
    while len(chosen) < k and free.any():
        eligible = free & ~served[label]
        if not eligible.any():
            served[:], turn, eligible = False, turn + 1, free
        worth = relevance
        if chosen and theirs is not None:
            # Rounded, so that what is equal but for the last bits of a sum goes by the order of ties.
            worth = np.round((1 - diversity) * relevance - diversity * closest, DECIMALS)
        best = int(np.where(eligible, worth, -np.inf).argmax())
        reason = f"number {len(chosen) + 1}, " + _worth(worth[best], closest[best])
        chosen.append(Chosen(int(places[best]), reason + (f", in round {turn} of {names[best]!r}" if labels else "")))
        free[best], served[label[best]] = False, True
        if theirs is not None:
            closest = np.maximum(closest, np.einsum("vd,d->v", theirs, theirs[best]))
    return chosen


def _worth(worth: float = 0.0, closest: float = -np.inf) -> str:
    if not np.isfinite(closest):
        return "by its similarity"
    return f"worth {worth:.5f}, being at most {closest:.5f} like one chosen before"
