"""The worker: one thread that encodes and searches, and the queue before it."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from udr.errors import OverloadedError, RequestError
from udr.retriever import Retriever
from udr.types import Retrieval, RetrievalRequest

Answer = Retrieval | RequestError
"""What a request gets; an error is returned, not raised, so that it stays with its request."""

CHECK = RetrievalRequest(input="Is anybody there?", scope="all", k=1)
"""A request that every index can answer."""


@dataclass(frozen=True, slots=True)
class _Job:
    request: RetrievalRequest
    answer: asyncio.Future[Answer]


class Worker:
    """Answers requests off the event loop. All but the answering itself happens on the loop, so nothing is locked.

    Whatever waits when the thread falls free is encoded as one batch. There is no timer: a request that comes
    alone is begun at once.

    Args:
        retriever: answers the requests; only the worker's thread calls it.
        queue_size: how many requests may wait.
        batch_size: how many are answered at once.
    """

    def __init__(self, retriever: Retriever, *, queue_size: int, batch_size: int) -> None:
        self._retriever, self._queue_size, self._batch_size = retriever, queue_size, batch_size
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="udr-worker")
        self._waiting: deque[_Job] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def answer(self, requests: Sequence[RetrievalRequest]) -> list[Answer]:
        """Return the answers, in order; a request that cannot be answered leaves the others alone.

        Raises:
            OverloadedError: so many requests do not fit into the queue; none was taken.
        """
        if len(self._waiting) + len(requests) > self._queue_size:
            raise OverloadedError(
                f"{len(self._waiting)} requests are waiting and {len(requests)} more were sent; "
                f"the limit is {self._queue_size}, try again later"
            )
        loop = asyncio.get_running_loop()
        jobs = [_Job(request, loop.create_future()) for request in requests]
        self._waiting.extend(jobs)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        return list(await asyncio.gather(*(job.answer for job in jobs)))

    async def check(self) -> None:
        """Encode and search once, as for any request.

        Raises:
            Exception: whatever keeps the retriever from answering.
        """
        (answer,) = await self.answer([CHECK])
        if isinstance(answer, RequestError):
            raise answer

    def close(self) -> None:
        """Wait for the batch in work, if there is one, and end the thread."""
        self._thread.shutdown(wait=True)

    async def _drain(self) -> None:
        while self._waiting:
            count = min(self._batch_size, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            # Whoever stopped waiting has cancelled the future; encoding for nobody would cost the others.
            await self._settle([job for job in batch if not job.answer.done()])

    async def _settle(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._retriever.answer, [job.request for job in jobs])
        except Exception as error:
            if len(jobs) > 1:
                # One of them broke the batch; alone, it breaks only itself.
                for job in jobs:
                    await self._settle([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)
