"""A batch: pieces of work that are done together, and those who wait for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from udr.retriever import Retriever
from udr_service.work import Result, Stages, Work


@dataclass(frozen=True, slots=True)
class Done:
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
    work: Work
    since: float
    done: asyncio.Future[Done]

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
    def works(self) -> list[Work]:
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

    def answer(self, results: Sequence[Result], stages: Stages) -> list[Done]:
        """Say what came of the jobs to those who still wait, and return it; on the loop."""
        done = [Done(result, self.begun - job.since, stages) for job, result in zip(self.jobs, results, strict=True)]
        for job, one in zip(self.jobs, done, strict=True):
            if not job.done.done():
                job.done.set_result(one)
        return done
