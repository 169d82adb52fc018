"""The queue of jobs that wait to be encoded, in plain queries, and the batches that the encoder takes from it."""

from collections.abc import Sequence

from udr_service.serving.work.jobs import QueuedJob, weight
from udr_service.serving.work.turns import Turns

COSTLY = 24
"""A job that costs as much as this many plain queries is searched for in a thread of its own."""


class JobQueue:
    """The jobs that wait, of clients that take turns, and those for the probe, which are next.

    The event loop fills it, and the encoder empties it.

    Args:
        batch_size: how many jobs run at once.
        batch_tokens: about how many tokens are encoded at once; a longer text is encoded alone.
    """

    def __init__(self, batch_size: int, batch_tokens: int) -> None:
        self._batch_size, self._batch_tokens = batch_size, batch_tokens
        self._jobs: Turns[QueuedJob] = Turns()
        self._reserved: Turns[QueuedJob] = Turns()
        # All in plain queries. Two counters, since each may be changed by one thread only.
        self._entered, self._left, self._costly, self._unresolved = 0, 0, 0, 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def cost(self) -> int:
        """What waits."""
        return self._entered - self._left + self._costly

    def put(self, client: str, jobs: Sequence[QueuedJob], *, reserved: bool) -> None:
        """Queue jobs of a client; ``reserved`` ones before all others."""
        for job in jobs:
            self._unresolved += job.cost
            if job.cost >= COSTLY:
                self._costly += job.cost
            else:
                self._entered += job.cost
        (self._reserved if reserved else self._jobs).put(client, jobs)

    def resolved(self, cost: int) -> None:
        """Count a job no more that has its result."""
        self._unresolved -= cost
        if cost >= COSTLY:
            self._costly -= cost

    def cost_before(self, client: str, number: int) -> int:
        """Return what is done before so many new jobs of a client: in the queue, and on its way behind it."""
        ahead = sum(job.cost for job in self._jobs.ahead(client, number) if job.cost < COSTLY)
        return ahead + max(0, self._unresolved - self.cost)

    def next_batch(self) -> list[QueuedJob]:
        """Return the next jobs for one retriever; empty if nothing waits."""
        batch: list[QueuedJob] = []
        tokens = 0
        for queue in (self._reserved, self._jobs):
            while len(batch) < self._batch_size and (job := queue.first()) is not None:
                if not job.stopped:
                    tokens += weight(job.job)
                    if batch and (tokens > self._batch_tokens or job.retriever is not batch[0].retriever):
                        return batch
                    batch.append(job)
                self._take(queue)
        return batch

    def fail(self, error: Exception) -> None:
        """Drop what waits, with an error."""
        for queue in (self._reserved, self._jobs):
            while job := self._take(queue):
                job.fail(error)

    def _take(self, queue: Turns[QueuedJob]) -> QueuedJob | None:
        job = queue.take()
        if job is not None and job.cost < COSTLY:
            self._left += job.cost
        return job
