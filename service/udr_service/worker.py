"""The worker: one thread that encodes and searches, and the queue before it."""

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from udr.errors import OverloadedError
from udr.retriever import Retriever
from udr_service.work import Result, Stages, Work, carry_out, weight

_PACES = 9
"""Of how many of the last batches the pace is taken; before there were so many, nobody is refused by it."""

_SURE = 1.5
"""How much longer than foreseen work may take and still be in time: the pace of the last batches is not the next's."""


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
class _Job:
    retriever: Retriever
    work: Work
    since: float
    done: asyncio.Future[Done]


def _nothing(done: Sequence[Done]) -> None:
    pass


class Worker:
    """Does work off the event loop. All but the work itself happens on the loop, so nothing is locked.

    Whatever waits when the thread falls free is one batch. There is no timer: work that comes alone is begun at once.

    Args:
        queue_size: how many pieces of work may wait.
        batch_size: how many are done at once.
        batch_tokens: about how many tokens are encoded at once; a longer text goes alone.
        told: hears of every batch that was done.
    """

    def __init__(
        self,
        *,
        queue_size: int,
        batch_size: int,
        batch_tokens: int,
        told: Callable[[Sequence[Done]], None] = _nothing,
    ) -> None:
        self._queue_size, self._batch_size, self._batch_tokens = queue_size, batch_size, batch_tokens
        self._told = told
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-worker")
        self._waiting: deque[_Job] = deque()
        self._in_work = 0
        self._paces: deque[float] = deque(maxlen=_PACES)
        self._draining: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return len(self._waiting)

    async def do(self, retriever: Retriever, works: Sequence[Work], within: float = math.inf) -> list[Done]:
        """Have work done, and return what came of it, in order.

        Whoever cancels this, or stops waiting for it, has what was not begun dropped.

        Args:
            retriever: does it.
            works: the pieces of work.
            within: how many seconds they may take; where those before them leave too little of it, they are refused
                at once, and can be tried elsewhere.

        Raises:
            OverloadedError: so much does not fit into the queue, or would hardly be done in time; none was taken.
            Exception: whatever a piece of work raised; it leaves those of others alone.
        """
        self._refuse_what_does_not_fit(len(works), within)
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        jobs = [_Job(retriever, work, now, loop.create_future()) for work in works]
        self._waiting.extend(jobs)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        return list(await asyncio.gather(*(job.done for job in jobs)))

    def close(self) -> None:
        """Wait for the batch in work, if there is one, and end the thread."""
        self._thread.shutdown(wait=True)

    def _refuse_what_does_not_fit(self, count: int, within: float) -> None:
        if self.waiting + count > self._queue_size:
            raise OverloadedError(
                f"{self.waiting} requests are waiting and {count} more were sent; "
                f"the limit is {self._queue_size}, try again later"
            )
        before = self.waiting + self._in_work
        seconds = self._foreseen(before + count)
        if before and _SURE * seconds > within:
            raise OverloadedError(
                f"{before} requests come before this one, which would take about {seconds:.2g} seconds and has "
                f"{within:.2g}; try again later"
            )

    async def _drain(self) -> None:
        while batch := self._take():
            begun, self._in_work = time.perf_counter(), len(batch)
            await self._settle(batch)
            self._paces.append((time.perf_counter() - begun) / len(batch))
            self._in_work = 0

    def _foreseen(self, count: int) -> float:
        """Return the seconds that so many pieces of work take, at the pace of the last batches.

        The median, so that one batch that was held up has nobody refused.
        """
        return count * statistics.median(self._paces) if len(self._paces) == _PACES else 0.0

    def _take(self) -> list[_Job]:
        """Return the next batch, all for one retriever; it is empty when nothing waits."""
        batch: list[_Job] = []
        tokens = 0
        while self._waiting and len(batch) < self._batch_size:
            job = self._waiting[0]
            # Whoever stopped waiting has cancelled the future; encoding for nobody would cost the others.
            if not job.done.done():
                tokens += weight(job.work)
                if batch and (tokens > self._batch_tokens or job.retriever is not batch[0].retriever):
                    break
                batch.append(job)
            self._waiting.popleft()
        return batch

    async def _settle(self, jobs: Sequence[_Job]) -> None:
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        try:
            results, stages = await loop.run_in_executor(
                self._thread, carry_out, jobs[0].retriever, [job.work for job in jobs]
            )
        except Exception as error:
            if len(jobs) > 1:
                # One of them broke the batch; alone, it breaks only itself.
                for job in jobs:
                    await self._settle([job])
            elif not jobs[0].done.done():
                jobs[0].done.set_exception(error)
            return
        done = [Done(result, begun - job.since, stages) for job, result in zip(jobs, results, strict=True)]
        for job, one in zip(jobs, done, strict=True):
            if not job.done.done():
                job.done.set_result(one)
        self._told(done)
