"""Selection of demonstrations among hits: pure functions of similarities, vectors and labels.

In order: hits too similar to the query or not similar enough are dropped; of near copies the best is kept; of the rest
k are chosen (see ``choose``). Ties go to the nearer hit, then to the smaller id. An index here is that of a hit in the
list of hits, nearest first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.retrieval.choice import Aspects, choose
from udr.retrieval.stopping import Stopped, never, refuse_stopped
from udr.retrieval.types import Decision, RetrievalRequest, Stage
from udr.search import DECIMALS, Hit, unit_vectors

_BLOCK = 512
"""Vectors converted and compared at once."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The result of a selection.

    Attributes:
        hits: all hits, nearest first.
        left: indices of the hits that no stage before the choice dropped.
        dropped: by index, the stage that dropped a hit, and why.
        chosen: the indices of the chosen hits, in the order of choice, and why each was chosen.
    """

    hits: Sequence[Hit]
    left: Sequence[int]
    dropped: dict[int, tuple[Stage, str]]
    chosen: dict[int, str]

    def decisions(self, notes: Mapping[tuple[str, int], str]) -> list[Decision]:
        """Return the outcome for each hit; ``notes``, by task and position, are added to the reasons."""
        # Equal reasons are one text, since a large request has 65,536 candidates.
        not_chosen, texts = f"not among the {len(self.chosen)} chosen", dict[tuple[str, str], str]()
        outcomes: dict[int, tuple[Stage, bool, str]] = {
            **{index: (stage, False, reason) for index, (stage, reason) in self.dropped.items()},
            **{index: ("choice", False, not_chosen) for index in self.left},
            **{index: ("choice", True, reason) for index, reason in self.chosen.items()},
        }
        decisions: list[Decision] = []
        for index, (stage, kept, reason) in outcomes.items():
            hit = self.hits[index]
            if note := notes.get((hit.task, hit.position)):
                reason = texts.setdefault((reason, note), f"{reason}; {note}")
            decisions.append(decision(hit, stage, kept, reason))
        return decisions


def decision(hit: Hit, stage: Stage, kept: bool, reason: str) -> Decision:
    """Return the outcome for a hit."""
    return Decision(
        id=hit.id,
        task=hit.task,
        similarity=round(hit.similarity, DECIMALS),
        ranking_score=hit.ranking_score,
        stage=stage,
        kept=kept,
        reason=reason,
    )


def select(
    hits: Sequence[Hit],
    request: RetrievalRequest,
    *,
    candidates: int,
    num_chosen: int | None = None,
    vectors: NDArray[np.floating] | None = None,
    labels: Sequence[str] | None = None,
    aspects: Aspects | None = None,
    copies: Sequence[float] | None = None,
    stopped: Stopped = never,
) -> Selected:
    """Choose the hits that a request asks for.

    Args:
        hits: in their order (``nearest``), without excluded ones.
        request: the request.
        candidates: how many of the nearest that are left diversity and coverage choose from.
        num_chosen: how many to choose; None chooses the request's k.
        vectors: [num_hits, dimension]; required for ``distinct`` and ``diversity``.
        labels: a label for each hit; required for ``balance``.
        aspects: what the hits cover; required for ``coverage``.
        copies: the cosine of each hit with the query as a demonstration; required for ``max_copy``.
        stopped: whether nobody waits for the result any more.

    Raises:
        StoppedError: nobody waits for the result any more.
    """
    needed = (request.diversity, vectors), (request.coverage, aspects), (request.balance, labels)
    assert all(given is not None for option, given in needed if option), "an option lacks what it reads"
    similarities = np.array([hit.similarity for hit in hits])
    dropped: dict[int, tuple[Stage, str]] = {}
    left = _within_bounds(similarities, request, dropped)
    if request.max_copy is not None:
        assert copies is not None, "max_copy compares the query with the hits"
        for index, cosine in enumerate(copies):
            if cosine > request.max_copy and index not in dropped:
                dropped[index] = "copies", f"its cosine with the query is {cosine:.5f}, above {request.max_copy:g}"
        left = [index for index in left if index not in dropped]
    if request.distinct is not None:
        assert vectors is not None, "distinct compares the hits"
        # What comes after enough are kept is neither chosen nor, beyond the candidates, explained.
        enough = candidates if request.weighs else num_chosen or request.k
        bounds = (len(hits), 0) if request.balance else (enough, candidates if request.explain else 0)
        left = _distinct(hits, left, vectors, request.distinct, dropped, bounds, stopped)
    # Rounds look beyond the nearest, or a rare label would have no turn.
    considered = left[:candidates] if request.weighs and not request.balance else left
    chosen = choose(
        np.array([hit.ranked_by for hit in hits]),
        considered,
        num_chosen or request.k,
        diversity=request.diversity or 0.0,
        vectors=vectors if request.diversity else None,
        coverage=request.coverage or 0.0,
        aspects=aspects if request.coverage else None,
        labels=labels if request.balance else None,
        stopped=stopped,
    )
    return Selected(hits, left, dropped, chosen)


def _within_bounds(
    similarities: NDArray[np.float64], request: RetrievalRequest, dropped: dict[int, tuple[Stage, str]]
) -> list[int]:
    """Return the indices of hits whose similarity, as shown, is within the request's bounds."""
    highest, lowest = request.max_similarity, request.min_similarity
    left: list[int] = []
    for index, similarity in enumerate(np.round(similarities, DECIMALS).tolist()):
        if highest is not None and similarity > highest:
            dropped[index] = "max_similarity", f"{similarity:.5f} is above {highest:g}"
        elif lowest is not None and similarity < lowest:
            dropped[index] = "min_similarity", f"{similarity:.5f} is below {lowest:g}"
        else:
            left.append(index)
    return left


def _distinct(
    hits: Sequence[Hit],
    left: Sequence[int],
    vectors: NDArray[np.floating],
    threshold: float,
    dropped: dict[int, tuple[Stage, str]],
    bounds: tuple[int, int],
    stopped: Stopped,
) -> list[int]:
    """Return the indices of hits that are not near copies of a nearer one.

    With ``bounds`` (enough, seen), it stops when that many are kept and those with an index below ``seen`` are done.
    """
    enough, seen = bounds
    kept: list[int] = []
    kept_units = np.empty((0, vectors.shape[1]))
    for start in range(0, len(left), _BLOCK):
        block = np.asarray(left[start : start + _BLOCK])
        if len(kept) >= enough and block[0] >= seen:
            break
        refuse_stopped(stopped)
        units = unit_vectors(vectors[block])
        with_kept = np.round(units @ kept_units.T, DECIMALS)
        closest = with_kept.max(axis=1, initial=-np.inf)
        nearer = with_kept.argmax(axis=1) if kept else np.zeros(len(block), np.int64)
        new: list[int] = []
        row = 0
        while (free := np.flatnonzero(closest[row:] < threshold)).size:
            # All rows before the next one that is free are near copies of kept ones.
            row += int(free[0])
            with_row = np.round(units @ units[row], DECIMALS)
            closer = with_row > closest
            closer[: row + 1] = False
            closest[closer], nearer[closer] = with_row[closer], len(kept) + len(new)
            new.append(row)
            row += 1
        kept += block[new].tolist()
        kept_units = np.concatenate([kept_units, units[new]])
        for row in sorted({*range(len(block))}.difference(new)):
            name = hits[kept[nearer[row]]].id
            dropped[int(block[row])] = "distinct", f"its cosine with {name!r}, which is nearer, is {closest[row]:.5f}"
    return kept


def cosines(vectors: NDArray[np.floating], vector: NDArray[np.floating]) -> list[float]:
    """Return the cosine of each vector, [count, dimension], with one, [dimension]; rounded to 5 decimals."""
    exact, values = vector.astype(np.float64), list[float]()
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(vector)
        values += np.round(block @ exact / np.where(lengths > 0, lengths, 1.0), DECIMALS).tolist()
    return values


def rounds(counts: Counter[str], k: int) -> dict[str, int]:
    """Return how many of each label a choice of k in rounds may take, one of each label per round."""
    taken, turn = 0, 0
    while taken < k and turn < max(counts.values(), default=0):
        turn += 1
        taken = sum(min(count, turn) for count in counts.values())
    return {name: min(count, turn) for name, count in counts.items()}
