"""Turns of the event loop: a few of a crowd in each, so that no probe waits for all of them."""

import asyncio
import heapq
import selectors
from collections import deque
from collections.abc import Callable

_STARTED_AT_ONCE = 8
"""Requests started in one turn."""

_READ_AT_ONCE = 4
"""Connections among those that send much, handled in one turn of the loop; what one read brings may take 10 ms."""

_Ready = list[tuple[selectors.SelectorKey, int]]


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
        elif self._waiting or self._started >= _STARTED_AT_ONCE:
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
        self._started = min(_STARTED_AT_ONCE, len(self._waiting))
        for _ in range(self._started):
            self._waiting.popleft()()
        if self._started:
            self._schedule()


class TurnSelector(selectors.DefaultSelector):
    """Reports which connections are ready: of those that send much, a few at a time, and the longest waiting first.

    The others stay ready, and are reported in one of the next turns. Used on the event loop only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0
        # Each connection that sends much, and the turn in which it was last handled.
        self._handled: dict[int, int] = {}

    def sends_much(self, descriptor: int, much: bool) -> None:
        """Say whether a connection sends a body, or what nobody reads; to be taken back before it is closed."""
        if much:
            self._handled.setdefault(descriptor, self._turn)
        else:
            self._handled.pop(descriptor, None)

    def select(self, timeout: float | None = None) -> _Ready:
        """Wait until something is ready; return it."""
        ready: _Ready = super().select(timeout)
        if len(self._handled) <= _READ_AT_ONCE:
            return ready
        self._turn += 1
        crowd = [event for event in ready if event[0].fd in self._handled]
        turn = heapq.nsmallest(_READ_AT_ONCE, crowd, key=lambda event: self._handled[event[0].fd])
        self._handled.update((key.fd, self._turn) for key, _ in turn)
        return [event for event in ready if event[0].fd not in self._handled] + turn
