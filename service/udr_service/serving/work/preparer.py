"""The preparer: a thread for what a request needs beside encoding and searching, off the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from udr.errors import OverloadedError
from udr.retrieval import Stopped
from udr_service.serving.work.priority import step_back
from udr_service.serving.work.turns import Turns

_T = TypeVar("_T")

WAITING = 64
"""How many works may wait at least, however short the queue."""


@dataclass(frozen=True, slots=True)
class _Work:
    do: Callable[[Stopped], Any]
    stopped: threading.Event = field(default_factory=threading.Event)
    future: "Future[Any]" = field(default_factory=Future)


class Preparer:
    """Parses large bodies, plans requests over many tasks, counts tokens, and writes large answers; clients take turns.

    One thread, since several would only keep the event loop waiting for the interpreter. Each call into C must be
    short: a thread does not help while such a call holds it.

    Args:
        queue_size: how many requests the service admits. Each may end here; refused then, it was searched in vain.
    """

    def __init__(self, queue_size: int) -> None:
        self._most = max(WAITING, queue_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="udr-prepare", initializer=step_back)
        self._waiting: Turns[_Work] = Turns()

    async def do(self, client: str, work: Callable[[Stopped], _T]) -> _T:
        """Return what ``work`` returns; on cancellation, it stops.

        Args:
            client: who takes turns with others.
            work: what to do in the thread. Its argument says whether nobody waits for the result any more.

        Raises:
            OverloadedError: too much waits already.
            Exception: whatever ``work`` raised.
        """
        if len(self._waiting) >= self._most:
            raise OverloadedError(
                f"{self._most} requests wait to be read, planned or written, the limit of this service (queue_size); "
                "try again later"
            )
        queued = _Work(work)
        self._waiting.put(client, [queued])
        self._thread.submit(self._next)
        try:
            result: _T = await asyncio.wrap_future(queued.future)
            return result
        finally:
            queued.stopped.set()

    def close(self) -> None:
        """Drop what waits, and end the thread."""
        while work := self._waiting.take():
            work.future.cancel()
        self._thread.shutdown(wait=True)

    def _next(self) -> None:
        work = self._waiting.take()
        if work is None or not work.future.set_running_or_notify_cancel():
            return
        try:
            work.future.set_result(work.do(work.stopped.is_set))
        except BaseException as error:  # A panic in a tokenizer is not an Exception, and would be lost here.
            work.future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
