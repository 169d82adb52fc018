"""Work: what one batch of the worker does, and how long each stage of it took."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from udr.encoder import Vectors
from udr.planning import Plan
from udr.retrieval import Retrieval
from udr.retriever import Retriever
from udr.types import Role

# An encoder reads about this many characters as one token; to weigh batches by, nothing else.
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text whose vector is asked for.

    Attributes:
        text: what the encoder reads.
        role: what it reads it as.
    """

    text: str
    role: Role


Work = Plan | Embedding
Result = Retrieval | Vectors
"""The answer to a plan, or the vector of an embedding, float32 [dimension]."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What a batch cost.

    Attributes:
        encode: seconds in the encoder.
        search: seconds in the index.
        size: how many pieces of work the batch had.
        tokens: about how many tokens the encoder had to read.
    """

    encode: float
    search: float
    size: int
    tokens: int


def weight(work: Work) -> int:
    """Return about how many tokens a piece of work has the encoder read; at least 1."""
    if isinstance(work, Plan) and not work.encoded:
        return 1
    return 1 + len(work.text) // _CHARACTERS_A_TOKEN


def carry_out(retriever: Retriever, works: Sequence[Work]) -> tuple[list[Result], Stages]:
    """Encode once for all of them, search once a partition, and return the results, in order.

    Raises:
        ModelError: the encoder gave what no search could use.
    """
    started = time.perf_counter()
    vectors = _encode(retriever, works)
    encoded = time.perf_counter()
    places = [place for place, work in enumerate(works) if isinstance(work, Plan)]
    plans = [work for work in works if isinstance(work, Plan)]
    asked = {number: vectors[place] for number, place in enumerate(places) if place in vectors}
    retrievals = retriever.search(plans, asked) if plans else []
    results: dict[int, Result] = {**vectors, **dict(zip(places, retrievals, strict=True))}
    tokens = sum(weight(work) for work in works)
    stages = Stages(encoded - started, time.perf_counter() - encoded, len(works), tokens)
    return [results[place] for place in range(len(works))], stages


def _encode(retriever: Retriever, works: Sequence[Work]) -> dict[int, Vectors]:
    """Return the vector of each piece of work that has one, by its place."""
    places: dict[Role, list[int]] = {"query": [], "demonstration": []}
    for place, work in enumerate(works):
        if (role := _role(work)) is not None:
            places[role].append(place)
    vectors: dict[int, Vectors] = {}
    for role, at in places.items():
        vectors |= zip(at, retriever.encode([works[place].text for place in at], role), strict=True)
    return vectors


def _role(work: Work) -> Role | None:
    if isinstance(work, Plan):
        return "query" if work.encoded else None
    return work.role
