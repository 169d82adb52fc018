"""Jobs: what a batch encodes and searches, the two steps of it, and the futures that wait for the results."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from udr.retrieval import Plan, Retrieval, Retriever, text_cost
from udr.search import Vectors
from udr.types import Role

# Roughly, and only to weigh batches.
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text to embed, in its role."""

    text: str
    role: Role


EncodeJob = Plan | Embedding
Result = Retrieval | Vectors
"""The answer to a plan, or the vector of an embedding, float32 [dimension]."""


@dataclass(frozen=True, slots=True)
class BatchCost:
    """The cost of a batch: seconds to encode and to search, jobs, and about how many tokens were encoded."""

    encode: float
    search: float
    size: int
    tokens: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job, the seconds that it waited in the queue, and the cost of its batch."""

    result: Result
    waited: float
    batch: BatchCost


def weight(job: EncodeJob) -> int:
    """Return about how many tokens a job encodes, at least 1."""
    if isinstance(job, Plan):
        characters = sum(map(len, job.query_texts)) + len(job.copy_text or "")
    else:
        characters = len(job.text)
    return 1 + characters // _CHARACTERS_PER_TOKEN


def cost(job: EncodeJob) -> int:
    """Return about how many plain queries a job costs, at least 1."""
    return job.cost if isinstance(job, Plan) else 1 + int(text_cost(job.text))


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded batch.

    Attributes:
        vectors: a vector per job, float32 [dimension], or None if it needs none.
        seconds: the time it took.
        copies: by position, the vectors of queries as demonstrations.
        fields: by position, the vectors of fields that a label head reads apart, float32 [num_fields, dimension].
    """

    vectors: Sequence[Vectors | None]
    seconds: float
    copies: Mapping[int, Vectors] = field(default_factory=dict)
    fields: Mapping[int, Vectors] = field(default_factory=dict)

    def part(self, positions: Sequence[int]) -> "Encoded":
        """Return the part of some jobs, as a batch of its own."""
        copies, fields = (
            {n: vectors[position] for n, position in enumerate(positions) if position in vectors}
            for vectors in (self.copies, self.fields)
        )
        return Encoded([self.vectors[position] for position in positions], self.seconds, copies, fields)


def encode(retriever: Retriever, jobs: Sequence[EncodeJob]) -> Encoded:
    """Encode a batch: all queries at once, then all demonstrations.

    Raises:
        ModelError: the encoder gave unusable vectors.
    """
    started, by_position = time.perf_counter(), dict(enumerate(jobs))
    plans = {n: job for n, job in by_position.items() if isinstance(job, Plan)}
    embeddings = {n: job for n, job in by_position.items() if isinstance(job, Embedding)}
    texts: dict[Role, dict[int, Sequence[str]]] = {
        role: {n: [job.text] for n, job in embeddings.items() if job.role == role} for role in get_args(Role)
    }
    texts["query"] |= {n: plan.query_texts for n, plan in plans.items() if plan.encoded}
    read = retriever.encode_each(texts["query"])
    written = retriever.encode_each(texts["demonstration"], "demonstration")
    copies = retriever.encode_each(
        {n: [plan.copy_text] for n, plan in plans.items() if plan.copy_text is not None}, "demonstration"
    )
    vectors = {n: own[0] for n, own in (*read.items(), *written.items())}
    return Encoded(
        [vectors.get(position) for position in by_position],
        time.perf_counter() - started,
        copies={n: own[0] for n, own in copies.items()},
        fields={n: own[1:] for n, own in read.items() if len(own) > 1},
    )


def search(
    retriever: Retriever, jobs: Sequence[EncodeJob], encoded: Encoded, stopped: Callable[[int], bool] = lambda _: False
) -> tuple[list[Result], BatchCost]:
    """Search for all plans of a batch at once; return the result of each job, in order.

    ``stopped`` says whether nobody waits for a job any more, by its position; its result is then empty.
    """
    started = time.perf_counter()
    results: dict[int, Result] = {n: vector for n, vector in enumerate(encoded.vectors) if vector is not None}
    plans = {position: job for position, job in enumerate(jobs) if isinstance(job, Plan)}
    if plans:
        at = list(plans)
        part = encoded.part(at)
        vectors = {n: vector for n, vector in enumerate(part.vectors) if vector is not None}
        found = retriever.search(
            list(plans.values()), vectors, part.copies, part.fields, stopped=lambda number: stopped(at[number])
        )
        results |= zip(plans, found, strict=True)
    cost = BatchCost(encoded.seconds, time.perf_counter() - started, len(jobs), sum(map(weight, jobs)))
    return [results[position] for position in range(len(jobs))], cost


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job in the queue since ``queued`` (by ``time.perf_counter``); ``future`` resolves to its result."""

    retriever: Retriever
    job: EncodeJob
    cost: int
    queued: float
    future: asyncio.Future[JobResult]

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for the result any more: its client hung up, or its deadline has passed."""
        return self.future.done()

    def fail(self, error: BaseException) -> None:
        """Raise an error where the result is awaited; call this on the event loop."""
        if self.future.done():
            return
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            # A future cannot raise these, or they would stop the loop.
            stopped = RuntimeError(f"the work was interrupted by {type(error).__name__}")
            stopped.__cause__ = error
            error = stopped
        self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Batch:
    """One or more queued jobs for one retriever, which run together from ``started`` on."""

    queue: Sequence[QueuedJob]
    started: float

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that awaits the results."""
        return self.queue[0].future.get_loop()

    @property
    def retriever(self) -> Retriever:
        """The retriever that runs it."""
        return self.queue[0].retriever

    @property
    def jobs(self) -> list[EncodeJob]:
        """The jobs."""
        return [queued.job for queued in self.queue]

    @property
    def cost(self) -> int:
        """About how many plain queries it costs."""
        return sum(queued.cost for queued in self.queue)

    def stopped(self, position: int) -> bool:
        """Return whether nobody waits for the job at a position any more."""
        return self.queue[position].stopped

    def split(self, error: BaseException) -> "list[Batch]":
        """Return a batch for each job, to find the one that raised the error; a single job fails with it."""
        if len(self.queue) > 1:
            return [Batch([queued], self.started) for queued in self.queue]
        self.loop.call_soon_threadsafe(self.queue[0].fail, error)
        return []

    def resolve(self, results: Sequence[Result], cost: BatchCost) -> None:
        """Set the results of the jobs that are still awaited; call this on the event loop."""
        for queued, result in zip(self.queue, results, strict=True):
            if not queued.future.done():
                queued.future.set_result(JobResult(result, self.started - queued.queued, cost))
