"""The starts of requests: a few in each turn of the event loop, so that no probe waits for a crowd of them."""

import asyncio
from collections import deque
from collections.abc import Callable

_AT_ONCE = 8
"""Requests started in one turn."""


class Starts:
    """Starts requests in the order in which they came, but for those that go first. Used on the event loop only."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._started = 0
        self._scheduled = False

    def add(self, start: Callable[[], None], *, first: bool = False) -> None:
        """Start a request: in this turn if it has started few, else in one of the next; before all others if first."""
        if first and self._waiting:
            self._waiting.appendleft(start)
        elif self._waiting or self._started >= _AT_ONCE:
            self._waiting.append(start)
        else:
            self._started += 1
            start()
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._started = min(_AT_ONCE, len(self._waiting))
        for _ in range(self._started):
            self._waiting.popleft()()
        if self._started:
            self._schedule()
