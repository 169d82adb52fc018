"""The worker: a queue, a thread that encodes and a thread that searches."""

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from udr.errors import OverloadedError
from udr.retrieval import Retriever
from udr_service.serving.jobs import (
    Batch,
    BatchCost,
    Encoded,
    EncodeJob,
    JobResult,
    QueuedJob,
    Result,
    encode,
    search,
    weight,
)

_PACES = 9
"""How many recent batches the pace is the median of; with fewer, no request is refused as too slow."""

_MARGIN = 1.5
"""How far the estimated time may exceed a deadline: the next batch may be faster than the last ones."""


class Worker:
    """Runs jobs off the event loop, in two threads: one encodes a batch while the other searches the one before.

    Whatever waits when the encoder is free becomes one batch. There is no timer: a single job starts at once. The
    encoder takes the next batch itself, since an event loop busy with answers would delay it.

    Everything else happens on the event loop, so nothing is locked: it fills the queue, and the encoder empties it.

    Args:
        queue_size: how many jobs may wait.
        batch_size: how many jobs run at once.
        batch_tokens: about how many tokens are encoded at once; a longer text is encoded alone.
        on_batch: called with the size and the tokens of each batch, on the event loop.
    """

    def __init__(
        self,
        *,
        queue_size: int,
        batch_size: int,
        batch_tokens: int,
        on_batch: Callable[[int, int], None] = lambda size, tokens: None,
    ) -> None:
        self._queue_size, self._batch_size, self._batch_tokens = queue_size, batch_size, batch_tokens
        self._on_batch = on_batch
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-encode")
        self._searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-search")
        self._queue: deque[QueuedJob] = deque()
        self._unresolved = 0
        self._paces: deque[float] = deque(maxlen=_PACES)
        self._scheduled = False
        self._search_in_progress: Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    async def do(self, retriever: Retriever, jobs: Sequence[EncodeJob], within: float = math.inf) -> list[JobResult]:
        """Run jobs and return their results, in order. On cancellation, jobs that have not started are dropped.

        Args:
            retriever: what runs them.
            jobs: the jobs.
            within: seconds until the deadline; if the jobs ahead leave too little time, these are refused at once,
                so that the client can try elsewhere.

        Raises:
            OverloadedError: the queue is too full, or the deadline too near; no job was queued.
            Exception: whatever a job raised; other calls are not affected.
        """
        self._refuse_overload(len(jobs), within)
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        queued = [QueuedJob(retriever, job, now, loop.create_future()) for job in jobs]
        self._unresolved += len(queued)
        for job in queued:
            job.future.add_done_callback(self._resolved)
        self._queue.extend(queued)
        if not self._scheduled:
            # After the loop has read all that has arrived, which becomes one batch.
            self._scheduled = True
            loop.call_soon(self._schedule)
        return list(await asyncio.gather(*(job.future for job in queued)))

    def close(self) -> None:
        """Drop waiting jobs, wait for running ones, and end the threads."""
        self._fail_queue(RuntimeError("the worker has been closed"))
        self._encoder.shutdown(wait=True)
        self._searcher.shutdown(wait=True)

    def _refuse_overload(self, count: int, within: float) -> None:
        if self.waiting + count > self._queue_size:
            raise OverloadedError(
                f"{self.waiting} requests are waiting and {count} more were sent; "
                f"the limit is {self._queue_size}; try again later"
            )
        before = self._unresolved
        # The median, so that one slow batch does not refuse requests.
        pace = statistics.median(self._paces) if len(self._paces) == _PACES else 0.0
        seconds = (before + count) * pace
        if before and _MARGIN * seconds > within:
            raise OverloadedError(
                f"{before} requests are ahead of this one, which would take about {seconds:.2g} seconds, "
                f"but has only {within:.2g}; try again later"
            )

    def _resolved(self, _future: "asyncio.Future[JobResult]") -> None:
        self._unresolved -= 1

    def _schedule(self) -> None:
        try:
            self._encoder.submit(self._encode_queue)
        except RuntimeError as error:
            self._fail_queue(error)

    def _fail_queue(self, error: Exception) -> None:
        self._scheduled = False
        while self._queue:
            self._queue.popleft().fail(error)

    def _next_batch(self) -> list[QueuedJob]:
        """Return the next jobs for one retriever; empty if nothing waits."""
        batch: list[QueuedJob] = []
        tokens = 0
        while self._queue and len(batch) < self._batch_size:
            queued = self._queue[0]
            # A done future was cancelled: its job is dropped.
            if not queued.future.done():
                tokens += weight(queued.job)
                if batch and (tokens > self._batch_tokens or queued.retriever is not batch[0].retriever):
                    break
                batch.append(queued)
            self._queue.popleft()
        return batch

    def _encode_queue(self) -> None:
        """Encode batch after batch; on the encoder's thread."""
        # Before the first look at the queue: whatever arrives after the last look schedules another run.
        self._scheduled = False
        while queue := self._next_batch():
            self._encode(Batch(queue, time.perf_counter()))

    def _encode(self, batch: Batch) -> None:
        started = time.perf_counter()
        try:
            encoded = encode(batch.retriever, batch.jobs)
        except BaseException as error:  # A panic in a tokenizer is not an Exception, and would be lost here.
            for single in batch.split(error):
                self._encode(single)
            return
        if self._search_in_progress is not None:
            # At most one batch waits for the search.
            wait([self._search_in_progress])
        pace = (time.perf_counter() - started) / len(batch.queue)
        self._search_in_progress = self._searcher.submit(self._search, batch, encoded, pace)

    def _search(self, batch: Batch, encoded: Encoded, pace: float) -> None:
        """Search for an encoded batch; on the searcher's thread."""
        try:
            results, cost = search(batch.retriever, batch.jobs, encoded)
        except BaseException as error:
            for position, single in enumerate(batch.split(error)):
                self._search(single, encoded.single(position), pace)
            return
        batch.loop.call_soon_threadsafe(self._resolve, batch, results, cost, pace)

    def _resolve(self, batch: Batch, results: Sequence[Result], cost: BatchCost, pace: float) -> None:
        self._paces.append(pace)
        batch.resolve(results, cost)
        self._on_batch(cost.size, cost.tokens)
