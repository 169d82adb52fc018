"""The worker: a queue, a thread that encodes, and two that search: one for plain jobs, one for costly ones."""

import asyncio
import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from udr.errors import OverloadedError
from udr.retrieval import Retriever
from udr_service.auth import Allowance
from udr_service.serving.clients import Client
from udr_service.serving.shares import Count, Shares
from udr_service.serving.work.jobs import (
    Batch,
    BatchCost,
    Encoded,
    EncodeJob,
    JobResult,
    QueuedJob,
    Result,
    cost,
    encode,
    search,
)
from udr_service.serving.work.limits import Pace, refuse_costly, refuse_overload
from udr_service.serving.work.priority import step_back
from udr_service.serving.work.queue import COSTLY, JobQueue

_MANY, _TURNS = 8, 4
"""If so many jobs come in a turn of the event loop, which starts few requests in each, more come in the next."""


class Worker:
    """Runs jobs off the event loop, in threads: one encodes a batch while another searches for the one before.

    Whatever waits when the encoder is free becomes one batch. There is no timer: a single job starts at once, and one
    that is alone is searched for by the thread that encoded it. The encoder takes the next batch itself, since an event
    loop busy with answers would delay it. Costly jobs are searched for one by one in a third thread, so that no plain
    one waits for them. Work that nobody waits for stops.

    Everything else happens on the event loop. Clients take turns.

    Args:
        queue_size: how much may wait, in plain queries.
        batch_size: how many jobs run at once.
        batch_tokens: about how many tokens are encoded at once; a longer text is encoded alone.
        on_batch: called with the size and the tokens of each batch, on the event loop.
        shares: what waits in other workers, which counts for the limit.
    """

    def __init__(
        self,
        *,
        queue_size: int,
        batch_size: int,
        batch_tokens: int,
        on_batch: Callable[[int, int], None] = lambda size, tokens: None,
        shares: Shares | None = None,
    ) -> None:
        self._queue_size, self._on_batch, self._shares = queue_size, on_batch, shares or Shares()
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-encode")
        self._searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-search")
        self._costly_searcher = ThreadPoolExecutor(1, thread_name_prefix="udr-search-costly", initializer=step_back)
        self._queue = JobQueue(batch_size, batch_tokens)
        self._pace = Pace()
        # What single requests cost beyond their clients' shares, which must not keep others out.
        self._excess = 0
        self._scheduled = False
        self._search_in_progress: Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many jobs wait to be encoded."""
        return len(self._queue)

    @property
    def waiting_cost(self) -> int:
        """What waits, in plain queries."""
        return self._queue.cost

    @property
    def _shared_cost(self) -> int:
        return max(0, self.waiting_cost - self._excess)

    def refuse_if_full(self) -> None:
        """Raise an ``OverloadedError`` if not even a plain query may wait."""
        if self._hold() >= self._queue_size:
            raise OverloadedError(f"the queue is full, with {self.waiting} requests; try again later")

    async def do(
        self,
        retriever: Retriever,
        jobs: Sequence[EncodeJob],
        within: float = math.inf,
        *,
        client: Client | None = None,
        reserved: bool = False,
    ) -> list[JobResult]:
        """Run jobs and return their results, in order. On cancellation, they stop.

        Args:
            retriever: what runs them.
            jobs: the jobs.
            client: who takes turns with others, and may have a share of the queue; None has no limit.
            within: seconds until the deadline; if the jobs ahead leave too little time, these are refused at once,
                so that the client can try elsewhere.
            reserved: run them next, beside the queue: for the probe, one at a time.

        Raises:
            CostError: the jobs cost more than the queue ever takes.
            OverloadedError: the queue is too full, the deadline too near, or the client above a limit; no job was
                queued.
            Exception: whatever a job raised; other calls are not affected.
        """
        costs = [cost(job) for job in jobs]
        client = client or Client("", Allowance())
        with client.queue(len(jobs), sum(costs), self._queue_size) as excess:
            if not reserved:
                self._refuse_overload(client.name, costs, within)
            self._excess += excess
            try:
                return await self._results(client.name, retriever, zip(jobs, costs, strict=True), reserved=reserved)
            finally:
                self._excess -= excess

    async def _results(
        self, client: str, retriever: Retriever, jobs: Iterable[tuple[EncodeJob, int]], *, reserved: bool
    ) -> list[JobResult]:
        """Queue jobs with their costs, and return their results, in order."""
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        queued = [QueuedJob(retriever, job, cost, now, loop.create_future()) for job, cost in jobs]
        for job in queued:
            job.future.add_done_callback(functools.partial(self._resolved, job.cost))
        self._queue.put(client, queued, reserved=reserved)
        if not self._scheduled:
            # After the loop has read all that has arrived, which becomes one batch.
            self._scheduled = True
            loop.call_soon(self._schedule)
        return list(await asyncio.gather(*(job.future for job in queued)))

    def close(self) -> None:
        """Drop waiting jobs, wait for running ones, and end the threads."""
        self._fail_queue(RuntimeError("the worker has been closed"))
        for threads in (self._encoder, self._searcher, self._costly_searcher):
            threads.shutdown(wait=True)

    def _refuse_overload(self, client: str, costs: Sequence[int], within: float) -> None:
        cost = sum(costs)
        refuse_costly(cost, self._queue_size)
        try:
            refuse_overload(self._hold(cost) - cost, cost, self._queue_size)
            self._pace.refuse_late(self._queue.cost_before(client, len(costs)), cost, within)
        except OverloadedError:
            self._hold()
            raise

    def _resolved(self, cost: int, _future: "asyncio.Future[JobResult]") -> None:
        self._queue.resolved(cost)
        self._hold()

    def _hold(self, more: int = 0) -> int:
        """Let other workers know what waits here, and return what waits in all of them; ``more`` is about to."""
        return self._shares.hold(Count.QUEUE, self._shared_cost + more)

    def _schedule(self, seen: int = 0, turns: int = _TURNS) -> None:
        """Start the encoder; if many jobs have come in this turn of the loop, after those of the next ones."""
        waiting = self.waiting
        if turns and waiting - seen >= _MANY:
            asyncio.get_running_loop().call_soon(self._schedule, waiting, turns - 1)
            return
        try:
            self._encoder.submit(self._encode_queue)
        except RuntimeError as error:
            self._fail_queue(error)

    def _fail_queue(self, error: Exception) -> None:
        self._scheduled = False
        self._queue.fail(error)

    def _encode_queue(self) -> None:
        """Encode batch after batch; on the encoder's thread."""
        # Before the first look at the queue: whatever arrives after the last look schedules another run.
        self._scheduled = False
        while queue := self._queue.next_batch():
            self._hold()
            self._encode(Batch(queue, time.perf_counter()))

    def _encode(self, batch: Batch) -> None:
        try:
            encoded = encode(batch.retriever, batch.jobs)
        except BaseException as error:  # A panic in a tokenizer is not an Exception, and would be lost here.
            for single in batch.split(error):
                self._encode(single)
            return
        if self._search_in_progress is not None:
            # At most one batch waits for the search.
            wait([self._search_in_progress])
        plain = [position for position, queued in enumerate(batch.queue) if queued.cost < COSTLY]
        for position, queued in enumerate(batch.queue):
            if queued.cost >= COSTLY:
                single = Batch([queued], batch.started)
                self._costly_searcher.submit(self._search, single, encoded.part([position]))
        if plain:
            part = Batch([batch.queue[position] for position in plain], batch.started)
            run = functools.partial(self._search, part, encoded.part(plain), paced=True)
            if len(batch.queue) == 1 and not self.waiting:
                # Nobody waits for this thread, and another one would have to wake up.
                run()
            else:
                self._search_in_progress = self._searcher.submit(run)

    def _search(self, batch: Batch, encoded: Encoded, *, paced: bool = False) -> None:
        """Search for an encoded batch, on a searcher's thread; ``paced`` if others wait for it."""
        try:
            results, cost = search(batch.retriever, batch.jobs, encoded, batch.stopped)
        except BaseException as error:
            for position, single in enumerate(batch.split(error)):
                self._search(single, encoded.part([position]), paced=paced)
            return
        batch.loop.call_soon_threadsafe(self._resolve, batch, results, cost, paced)

    def _resolve(self, batch: Batch, results: Sequence[Result], cost: BatchCost, paced: bool) -> None:
        if paced:
            # One batch is encoded while another is searched for, so the slower step counts. How long the batch waited
            # for the one before does not: that one may have been large, and this one small.
            self._pace.add(max(cost.encode, cost.search), batch.cost)
        batch.resolve(results, cost)
        self._on_batch(cost.size, cost.tokens)
