"""The selector of the event loop: connections that send much take turns, so that no probe waits for a crowd of them."""

import heapq
import selectors

_AT_ONCE = 4
"""Connections among those that send much, handled in one turn of the loop; what one read brings may take 10 ms."""

_Ready = list[tuple[selectors.SelectorKey, int]]


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
        if len(self._handled) <= _AT_ONCE:
            return ready
        self._turn += 1
        crowd = [event for event in ready if event[0].fd in self._handled]
        turn = heapq.nsmallest(_AT_ONCE, crowd, key=lambda event: self._handled[event[0].fd])
        self._handled.update((key.fd, self._turn) for key, _ in turn)
        return [event for event in ready if event[0].fd not in self._handled] + turn
