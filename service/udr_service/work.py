"""Work: the two steps of a batch, encoding and searching, and how long each of them took."""

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


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch, encoded.

    Attributes:
        vectors: of each piece of work, float32 [dimension]; None for those that need none.
        seconds: what that took.
    """

    vectors: Sequence[Vectors | None]
    seconds: float


def encode(retriever: Retriever, works: Sequence[Work]) -> Encoded:
    """Encode all of them at once, queries and demonstrations each.

    Raises:
        ModelError: the encoder gave what no search could use.
    """
    started = time.perf_counter()
    places: dict[Role, list[int]] = {"query": [], "demonstration": []}
    for place, work in enumerate(works):
        if (role := _role(work)) is not None:
            places[role].append(place)
    vectors: dict[int, Vectors] = {}
    for role, at in places.items():
        vectors |= zip(at, retriever.encode([works[place].text for place in at], role), strict=True)
    return Encoded([vectors.get(place) for place in range(len(works))], time.perf_counter() - started)


def search(retriever: Retriever, works: Sequence[Work], encoded: Encoded) -> tuple[list[Result], Stages]:
    """Search once a partition, and return what came of each piece of work, in order."""
    started = time.perf_counter()
    results: dict[int, Result] = {place: vector for place, vector in enumerate(encoded.vectors) if vector is not None}
    plans = {place: work for place, work in enumerate(works) if isinstance(work, Plan)}
    if plans:
        own = (encoded.vectors[place] for place in plans)
        vectors = {number: vector for number, vector in enumerate(own) if vector is not None}
        results |= zip(plans, retriever.search(list(plans.values()), vectors), strict=True)
    tokens = sum(weight(work) for work in works)
    return [results[place] for place in range(len(works))], Stages(
        encoded.seconds, time.perf_counter() - started, len(works), tokens
    )


def _role(work: Work) -> Role | None:
    if isinstance(work, Plan):
        return "query" if work.encoded else None
    return work.role
