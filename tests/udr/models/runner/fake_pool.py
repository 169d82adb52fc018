"""Workers in this process, which die and fail when they are told to; a shard's work is done when it is waited for."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from udr import __version__
from udr.models.runner import Answer, Hello, Load, Lost, Shard


class FakePool:
    """A pool of ``size`` workers, each with the model that ``load`` returns.

    Args:
        size: the number of workers.
        load: loads a worker's model.
        dies: whether the worker of a number dies of the shard with a key, and with it its queue.
        starts: what becomes of the first starts in place of a ``Hello``; None is a ``Hello``.
    """

    def __init__(
        self,
        size: int,
        load: Load[Any, Any],
        dies: Callable[[int, str], bool] = lambda *_: False,
        starts: Iterable[Hello | Lost | None] = (),
    ) -> None:
        self.size, self._load, self._dies, self._starts = size, load, dies, deque(starts)
        self.events: dict[Hashable, Hello | Answer | Lost] = {}
        self.queues: dict[int, dict[int, Shard[Any]]] = defaultdict(dict)
        self.models: dict[int, Callable[[Any], Any]] = {}
        self.longest = self.tickets = 0

    def start(self, number: int) -> Hashable:
        planned = self._starts.popleft() if self._starts else None
        identity, self.models[number] = self._load()
        self.tickets += 1
        self.events[self.tickets] = planned or Hello(f"node-{number}", __version__, identity)
        return self.tickets

    def submit(self, number: int, shard: Shard[Any]) -> Hashable:
        self.tickets += 1
        self.queues[number][self.tickets] = shard
        self.longest = max(self.longest, len(self.queues[number]))
        return self.tickets

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Hello | Answer | Lost]]:
        for number, queue in self.queues.items():
            if not queue:
                continue
            ticket, shard = next(iter(queue.items()))
            if self._dies(number, shard.key):
                self.events |= dict.fromkeys(queue, Lost("killed"))
                queue.clear()
                continue
            del queue[ticket]
            try:
                self.events[ticket] = Answer(self.models[number](shard.work), "", 0.5, ("a notice",))
            except ValueError as error:
                self.events[ticket] = Answer(None, str(error), 0.5)
        return [(ticket, self.events.pop(ticket)) for ticket in tickets if ticket in self.events]

    def describe(self) -> str:
        return "a fake pool"
