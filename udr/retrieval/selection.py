"""Selection: what becomes of the demonstrations that a search proposed. Pure functions of similarities and vectors.

The stages, in their order: what is too similar to the query or not similar enough is left out; of demonstrations that
are near copies of one another the best is kept; of the rest k are chosen, by similarity, by maximal marginal relevance,
label by label, or both. Ties go to the nearer one, and among equally near ones to the smaller id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from udr.retrieval.mmr import Chosen, choose
from udr.retrieval.types import Decision, RetrievalRequest, Stage
from udr.search import DECIMALS, Hit

Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection came to.

    Attributes:
        hits: those that it looked at, nearest first.
        left: the places, in ``hits``, of those that came as far as the choice.
        dropped: by place, the stage that left the others out, and why.
        chosen: the places of those that were chosen, in the order of the choice, and why.
    """

    hits: Sequence[Hit]
    left: Sequence[int]
    dropped: dict[int, tuple[Stage, str]]
    chosen: Sequence[Chosen]

    def decisions(self) -> dict[tuple[str, str], Decision]:
        """Return what became of each hit, by its task and id, nearest first."""
        kept = {one.place: one.reason for one in self.chosen}
        told: dict[int, tuple[Stage, bool, str]] = {
            **{place: (stage, False, reason) for place, (stage, reason) in self.dropped.items()},
            **{place: ("choice", False, f"others came first, and {len(kept)} were wanted") for place in self.left},
            **{place: ("choice", True, reason) for place, reason in kept.items()},
        }
        return {(hit.task, hit.id): decision(hit, *told[place]) for place, hit in enumerate(self.hits) if place in told}


def decision(hit: Hit, stage: Stage, kept: bool, reason: str) -> Decision:
    """Return what became of a hit."""
    return Decision(
        id=hit.id, task=hit.task, similarity=round(hit.similarity, DECIMALS), stage=stage, kept=kept, reason=reason
    )


def select(
    hits: Sequence[Hit],
    request: RetrievalRequest,
    *,
    candidates: int,
    vectors: NDArray[np.float64] | None = None,
    labels: Sequence[str] | None = None,
) -> Selected:
    """Choose among hits what a request asks for.

    Args:
        hits: in their order (``nearest``); none that must not come back.
        request: what it asks for; ``k`` and all that bears on selection.
        candidates: among how many of the nearest that are left diversity chooses.
        vectors: float64 [num_hits, dimension]; needed where ``distinct`` or ``diversity`` is asked for.
        labels: a label for each hit; needed where ``balance`` is asked for.

    Raises:
        ValueError: vectors or labels are needed and not given.
    """
    similarities = np.array([hit.similarity for hit in hits])
    dropped: dict[int, tuple[Stage, str]] = {}
    left = _within_bounds(similarities, request, dropped)
    if request.distinct is not None:
        left = _distinct(hits, left, _needed(vectors, "distinct"), request.distinct, dropped)
    # Rounds over labels have to look beyond the nearest, or a rare label would have no turn.
    among = left[:candidates] if request.diversity and not request.balance else left
    chosen = choose(
        similarities,
        among,
        request.k,
        diversity=request.diversity or 0.0,
        vectors=_needed(vectors, "diversity") if request.diversity else None,
        labels=_needed(labels, "balance") if request.balance else None,
    )
    return Selected(hits, left, dropped, chosen)


def _within_bounds(
    similarities: NDArray[np.float64], request: RetrievalRequest, dropped: dict[int, tuple[Stage, str]]
) -> list[int]:
    """Return the places of hits that are shown as neither too similar nor too little."""
    most, least = request.max_similarity, request.min_similarity
    left: list[int] = []
    for place, similarity in enumerate(np.round(similarities, DECIMALS).tolist()):
        if most is not None and similarity > most:
            dropped[place] = "max_similarity", f"{similarity:.5f} is above {most:g}"
        elif least is not None and similarity < least:
            dropped[place] = "min_similarity", f"{similarity:.5f} is below {least:g}"
        else:
            left.append(place)
    return left


def _distinct(
    hits: Sequence[Hit],
    left: Sequence[int],
    vectors: NDArray[np.float64],
    threshold: float,
    dropped: dict[int, tuple[Stage, str]],
) -> list[int]:
    """Return the places of hits that are not near copies of one before them that is kept."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1.0)
    kept: list[int] = []
    for place in left:
        cosines = np.round(np.einsum("vd,d->v", units[kept], units[place]), DECIMALS)
        if kept and cosines.max() >= threshold:
            twin = hits[kept[int(cosines.argmax())]]
            dropped[place] = "distinct", f"its cosine with {twin.id!r}, which comes first, is {cosines.max():.5f}"
        else:
            kept.append(place)
    return kept


def _needed(given: Given | None, name: str) -> Given:
    if given is None:
        raise ValueError(f"{name} was asked for, but what it needs was not given")
    return given
