"""A queue in which clients take turns, so that nobody waits for all that another has sent."""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import chain, islice
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Turns(Generic[_T]):
    """Items by client: in turn among the clients, in order for each. Thread-safe."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[_T]] = OrderedDict()
        self._length = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def put(self, client: str, items: Iterable[_T]) -> None:
        """Add items of a client, behind its others."""
        added = list(items)
        with self._lock:
            if added:
                self._queues.setdefault(client, deque()).extend(added)
                self._length += len(added)

    def ahead(self, client: str, count: int) -> list[_T]:
        """Return the items that come before the last one of ``count`` more of a client."""
        with self._lock:
            own = self._queues.get(client, deque())
            turn = len(own) + count
            others = (islice(queue, turn) for name, queue in self._queues.items() if name != client)
            return [*own, *chain.from_iterable(others)]

    def first(self) -> _T | None:
        """Return the next item, and leave it; None if there is none."""
        with self._lock:
            return next(iter(self._queues.values()))[0] if self._queues else None

    def take(self) -> _T | None:
        """Take the next item; None if there is none. Its client's next one comes after those of the others."""
        with self._lock:
            if not self._queues:
                return None
            client, queue = self._queues.popitem(last=False)
            item = queue.popleft()
            self._length -= 1
            if queue:
                self._queues[client] = queue
            return item
