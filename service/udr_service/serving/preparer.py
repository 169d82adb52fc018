"""The preparer: threads for what a request needs beside encoding and searching, off the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from udr.errors import OverloadedError

_T = TypeVar("_T")

THREADS = 2
WAITING = 64
"""How many works may wait for a thread."""


class Preparer:
    """Parses large bodies, plans requests over many tasks, counts tokens, and writes large answers.

    Each call into C must be short, since a thread does not help while such a call holds the interpreter.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="udr-prepare")
        self._waiting = 0

    async def do(self, work: Callable[[Callable[[], bool]], _T]) -> _T:
        """Return what ``work`` returns.

        Args:
            work: what to do in a thread. Its argument says whether nobody waits for the result any more; on
                cancellation, work that has not started is dropped.

        Raises:
            OverloadedError: too much waits already.
            Exception: whatever ``work`` raised.
        """
        if self._waiting >= THREADS + WAITING:
            raise OverloadedError(f"{WAITING} large requests are waiting, the limit; try again later")
        stopped = threading.Event()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, stopped.is_set)
        finally:
            self._waiting -= 1
            stopped.set()

    def close(self) -> None:
        """End the threads when they have finished."""
        self._threads.shutdown(wait=True, cancel_futures=True)
