"""The worker: a thread that encodes, one that searches, and the queue before them."""

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from udr.errors import OverloadedError
from udr.retrieval import Retriever
from udr_service.serving.jobs import Batch, Encoded, EncodeJob, Job, JobResult, Result, Stages, encode, search, weight

_PACES = 9
"""Of how many of the last batches the pace is taken; before there were so many, nobody is refused by it."""

_SURE = 1.5
"""How much longer than foreseen work may take and still be in time: the pace of the last batches is not the next's."""


def _nothing(done: Sequence[JobResult]) -> None:
    pass


class Worker:
    """Does work off the event loop, in two threads that hand it on: one encodes, one searches.

    Whatever waits when the encoder falls free is one batch. There is no timer: work that comes alone is begun at once.
    While a batch is searched and answered, the next is encoded; the encoder takes it by itself, as an event loop that
    is busy with answers would have it wait.

    All else happens on the loop, so nothing is locked: the queue is filled there and emptied by the encoder.

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
        told: Callable[[Sequence[JobResult]], None] = _nothing,
    ) -> None:
        self._queue_size, self._batch_size, self._batch_tokens = queue_size, batch_size, batch_tokens
        self._told = told
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-encode")
        self._searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-search")
        self._waiting: deque[Job] = deque()
        self._unanswered = 0
        self._paces: deque[float] = deque(maxlen=_PACES)
        self._called = False
        self._searching: Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return len(self._waiting)

    async def do(self, retriever: Retriever, works: Sequence[EncodeJob], within: float = math.inf) -> list[JobResult]:
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
        jobs = [Job(retriever, work, now, loop.create_future()) for work in works]
        self._unanswered += len(jobs)
        for job in jobs:
            job.done.add_done_callback(self._answered)
        self._waiting.extend(jobs)
        if not self._called:
            # When the loop has read what else has come: that is one batch.
            self._called = True
            loop.call_soon(self._call)
        return list(await asyncio.gather(*(job.done for job in jobs)))

    def close(self) -> None:
        """Wait for what is being encoded and searched, if anything is, and end the threads; what waits is dropped."""
        self._fail_what_waits(RuntimeError("the worker has been closed"))
        self._encoder.shutdown(wait=True)
        self._searcher.shutdown(wait=True)

    def _refuse_what_does_not_fit(self, count: int, within: float) -> None:
        if self.waiting + count > self._queue_size:
            raise OverloadedError(
                f"{self.waiting} requests are waiting and {count} more were sent; "
                f"the limit is {self._queue_size}, try again later"
            )
        before = self._unanswered
        seconds = self._foreseen(before + count)
        if before and _SURE * seconds > within:
            raise OverloadedError(
                f"{before} requests come before this one, which would take about {seconds:.2g} seconds and has "
                f"{within:.2g}; try again later"
            )

    def _answered(self, _done: "asyncio.Future[JobResult]") -> None:
        self._unanswered -= 1

    def _call(self) -> None:
        try:
            self._encoder.submit(self._encode_what_waits)
        except RuntimeError as error:
            self._fail_what_waits(error)

    def _fail_what_waits(self, error: Exception) -> None:
        self._called = False
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _foreseen(self, count: int) -> float:
        """Return the seconds that so many pieces of work take, at the pace of the last batches.

        The median, so that one batch that was held up has nobody refused.
        """
        return count * statistics.median(self._paces) if len(self._paces) == _PACES else 0.0

    def _take(self) -> list[Job]:
        """Return the next batch, all for one retriever; it is empty when nothing waits."""
        batch: list[Job] = []
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

    def _encode_what_waits(self) -> None:
        """Encode, batch after batch, and hand them on; on the encoder's thread."""
        # Before it looks: what comes after the last look calls again, and what comes before does not.
        self._called = False
        while jobs := self._take():
            self._encode(Batch(jobs, time.perf_counter()))

    def _encode(self, batch: Batch) -> None:
        started = time.perf_counter()
        try:
            encoded = encode(batch.retriever, batch.works)
        except BaseException as error:  # A panic in a tokenizer is no Exception, and nobody would be told of it.
            for one in batch.blame(error):
                self._encode(one)
            return
        if self._searching is not None:
            # No more than one batch waits to be searched, however long that takes.
            wait([self._searching])
        pace = (time.perf_counter() - started) / len(batch.jobs)
        self._searching = self._searcher.submit(self._search, batch, encoded, pace)

    def _search(self, batch: Batch, encoded: Encoded, pace: float) -> None:
        """Search for what was encoded, and have it answered; on the searcher's thread."""
        try:
            results, stages = search(batch.retriever, batch.works, encoded)
        except BaseException as error:
            for one, vector in zip(batch.blame(error), encoded.vectors, strict=False):
                self._search(one, Encoded([vector], encoded.seconds), pace)
            return
        batch.loop.call_soon_threadsafe(self._answer, batch, results, stages, pace)

    def _answer(self, batch: Batch, results: Sequence[Result], stages: Stages, pace: float) -> None:
        self._paces.append(pace)
        self._told(batch.answer(results, stages))
