"""Jobs: what is encoded and searched together in a batch, the two steps of it, and those who wait for them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from udr.retrieval import Plan, Retrieval, Retriever
from udr.search import Vectors
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


EncodeJob = Plan | Embedding
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


def weight(work: EncodeJob) -> int:
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


def encode(retriever: Retriever, works: Sequence[EncodeJob]) -> Encoded:
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


def search(retriever: Retriever, works: Sequence[EncodeJob], encoded: Encoded) -> tuple[list[Result], Stages]:
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


def _role(work: EncodeJob) -> Role | None:
    if isinstance(work, Plan):
        return "query" if work.encoded else None
    return work.role


@dataclass(frozen=True, slots=True)
class JobResult:
    """A piece of work, done.

    Attributes:
        result: what came of it.
        waited: seconds in the queue.
        stages: what its batch cost.
    """

    result: Result
    waited: float
    stages: Stages


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work that is waited for.

    Attributes:
        retriever: does it.
        work: what is to be done.
        since: when it came, by ``time.perf_counter``.
        done: what is waited for.
    """

    retriever: Retriever
    work: EncodeJob
    since: float
    done: asyncio.Future[JobResult]

    def fail(self, error: BaseException) -> None:
        """Raise an error where the work is waited for; on the loop."""
        if self.done.done():
            return
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            # These would end the loop, or could not be raised there.
            stopped = RuntimeError(f"the work was broken off by {type(error).__name__}")
            stopped.__cause__ = error
            error = stopped
        self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs for one retriever, that are done together.

    Attributes:
        jobs: one or more.
        begun: when, by ``time.perf_counter``.
    """

    jobs: Sequence[Job]
    begun: float

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where they are waited for."""
        return self.jobs[0].done.get_loop()

    @property
    def retriever(self) -> Retriever:
        """What does them."""
        return self.jobs[0].retriever

    @property
    def works(self) -> list[EncodeJob]:
        """What is to be done."""
        return [job.work for job in self.jobs]

    def blame(self, error: BaseException) -> "list[Batch]":
        """Return the jobs one by one, as one of them broke the batch, and alone breaks only itself.

        There are none where there is only one: it is to blame, and fails.
        """
        if len(self.jobs) > 1:
            return [Batch([job], self.begun) for job in self.jobs]
        self.loop.call_soon_threadsafe(self.jobs[0].fail, error)
        return []

    def answer(self, results: Sequence[Result], stages: Stages) -> list[JobResult]:
        """Say what came of the jobs to those who still wait, and return it; on the loop."""
        done = [
            JobResult(result, self.begun - job.since, stages) for job, result in zip(self.jobs, results, strict=True)
        ]
        for job, one in zip(self.jobs, done, strict=True):
            if not job.done.done():
                job.done.set_result(one)
        return done
