"""Who does which shard: bounded queues, retries, and workers that die. Knows no engine."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from udr import __version__
from udr.errors import ModelError
from udr.models.runner.shards import Done, Failure, Result, Shard, Work

_LOG = logging.getLogger(__name__)

QUEUED = 3
"""Shards that a worker has at a time: one runs, and the next are there when it ends. Memory is bounded by them."""

TRIES = 3
"""How often a shard is tried, and a worker started in vain."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says when its model is loaded, or cannot be: ``error`` is empty or says why."""

    node: str
    version: str
    identity: str = ""
    error: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a shard: its result, or an error; the seconds that it took; and what the worker logged."""

    result: Any
    error: str
    seconds: float
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker died, or its machine did."""

    reason: str


class Pool(Protocol):
    """Workers of an engine, by number."""

    size: int

    def start(self, number: int) -> Hashable:
        """Start a worker, or start it again; return the ticket of its ``Hello``."""

    def submit(self, number: int, shard: Shard[Any]) -> Hashable:
        """Queue a shard, which begins when the worker's earlier ones end; return the ticket of its ``Answer``."""

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Hello | Answer | Lost]]:
        """Return what has come for some tickets, or nothing after some seconds."""

    def describe(self) -> str:
        """Return what the workers ask for, and what the cluster has, in words."""


@dataclass(slots=True)
class _Worker:
    number: int
    hello: Hashable | None
    node: str = ""
    since: float = 0.0
    rows: int = 0
    false_starts: int = 0
    queue: dict[Hashable, Shard[Any]] = field(default_factory=dict)


class Scheduler(Generic[Work, Result]):
    """Gives shards to workers and yields their results as they come.

    A worker that dies costs the shard that it was doing one of ``TRIES``; those behind it lose none. Neither does a
    worker's death lose results: each is yielded, and can be stored, as soon as it is there.

    Args:
        open_pool: opens the pool when there is work.
        identity: that of the model which every worker has to hold.
        patience: seconds after which it is an error that no worker has started.

    Attributes:
        failures: the shards that failed on every try.
    """

    def __init__(self, open_pool: Callable[[], Pool], identity: str, patience: float = 1800.0) -> None:
        self._open, self._identity, self._patience = open_pool, identity, patience
        self._pool: Pool | None = None
        self._workers: list[_Worker] = []
        self._said = set[str]()
        self.failures: list[Failure] = []

    @property
    def note(self) -> str:
        """The workers' numbers of rows per second, in words."""
        now = time.monotonic()
        rates = sorted(item.rows / max(now - item.since, 1e-3) for item in self._workers if item.hello is None)
        if not rates:
            return "no worker yet"
        return f"{len(rates)} of {len(self._workers)} workers, each {rates[0]:.3g} to {rates[-1]:.3g} per second"

    def run(self, shards: Iterable[Shard[Work]]) -> Iterator[Done[Work, Result]]:
        """Yield the shards' results in the order in which they end; those that failed are added to ``failures``.

        Shards are taken from the iterable only as workers have room for them.

        Raises:
            ModelError: a worker cannot load the model, or holds another one; or none can be started.
        """
        source, again, tries = iter(shards), deque[Shard[Work]](), Counter[str]()
        if (first := next(source, None)) is None:
            return
        again.append(first)
        pool = self._started()
        idle_since = time.monotonic()
        while True:
            self._feed(pool, source, again)
            if not again and not any(worker.queue for worker in self._workers):
                # If all workers are loading, none has asked for more.
                if (shard := next(source, None)) is None:
                    # They are not needed any more.
                    return
                again.append(shard)
            tickets = {ticket: worker for worker in self._workers for ticket in worker.queue}
            tickets |= {worker.hello: worker for worker in self._workers if worker.hello is not None}
            events = pool.wait(list(tickets), 60.0)
            if events or any(worker.hello is None for worker in self._workers):
                idle_since = time.monotonic()
            else:
                self._complain(pool, time.monotonic() - idle_since)
            # Answers first: of a worker that has died, they were finished before.
            for ticket, event in sorted(events, key=lambda item: isinstance(item[1], Lost)):
                worker = tickets[ticket]
                if isinstance(event, Hello):
                    self._greet(worker, event)
                elif isinstance(event, Answer):
                    shard = worker.queue.pop(ticket)
                    self._repeat(event.notices, worker.node)
                    if event.error:
                        self._retry(shard, f"{worker.node}: {event.error}", tries, again)
                        continue
                    worker.rows += len(shard.rows)
                    yield Done(shard, event.result, event.seconds)
                elif ticket in worker.queue or ticket == worker.hello:
                    self._replace(pool, worker, event.reason, tries, again)

    def _started(self) -> Pool:
        if self._pool is None:
            self._pool = self._open()
            _LOG.info("%s...", self._pool.describe())
            self._workers = [_Worker(number, self._pool.start(number)) for number in range(self._pool.size)]
        return self._pool

    def _feed(self, pool: Pool, source: Iterator[Shard[Work]], again: deque[Shard[Work]]) -> None:
        """Fill the workers' queues, the shortest first."""
        while free := [item for item in self._workers if item.hello is None and len(item.queue) < QUEUED]:
            shard = again.popleft() if again else next(source, None)
            if shard is None:
                return
            worker = min(free, key=lambda item: len(item.queue))
            worker.queue[pool.submit(worker.number, shard)] = shard

    def _greet(self, worker: _Worker, hello: Hello) -> None:
        """Take up a worker whose model is loaded and is the right one."""
        if hello.error:
            raise ModelError(f"the worker on {hello.node} cannot load the model: {hello.error}")
        here = f"{self._identity}, udr {__version__}"
        if (there := f"{hello.identity}, udr {hello.version}") != here:
            raise ModelError(f"the worker on {hello.node} holds {there}, but this process {here}; make them the same")
        self._repeat(hello.notices, hello.node)
        worker.hello, worker.node, worker.false_starts = None, hello.node, 0
        worker.since, worker.rows = time.monotonic(), 0
        _LOG.info("worker %d of %d has loaded its model: %s", worker.number + 1, len(self._workers), hello.node)

    def _replace(
        self, pool: Pool, worker: _Worker, reason: str, tries: Counter[str], again: deque[Shard[Work]]
    ) -> None:
        """Start another worker in place of one that died; its shards go back."""
        running, *behind = worker.queue.values() or [None]
        worker.queue.clear()
        again.extendleft(reversed([shard for shard in behind if shard is not None]))
        if running is not None:
            self._retry(running, f"the worker on {worker.node} died: {reason}", tries, again)
        if worker.hello is not None:
            worker.false_starts += 1
        if worker.false_starts >= TRIES:
            self._workers.remove(worker)
            _LOG.warning("a worker died %d times while it started: %s", TRIES, reason)
            if not self._workers:
                raise ModelError(f"no worker could be started; the last one died: {reason}")
            return
        worker.hello = pool.start(worker.number)

    def _retry(self, shard: Shard[Work], reason: str, tries: Counter[str], again: deque[Shard[Work]]) -> None:
        """Put a shard back that failed, or report it after its last try."""
        tries[shard.key] += 1
        if tries[shard.key] < TRIES:
            _LOG.warning("part %s failed and is tried again: %s", shard.key[:8], reason)
            again.append(shard)
            return
        _LOG.warning("part %s failed %d times: %s; its rows: %s", shard.key[:8], TRIES, reason, ", ".join(shard.rows))
        self.failures.append(Failure(shard.rows, reason))

    def _repeat(self, notices: Iterable[str], node: str) -> None:
        """Log what workers have logged, once for all of them."""
        for notice in notices:
            if notice not in self._said:
                self._said.add(notice)
                _LOG.warning("%s (on %s)", notice, node)

    def _complain(self, pool: Pool, seconds: float) -> None:
        message = f"no worker has its model after {seconds:.0f} s: {pool.describe()}"
        if seconds > self._patience:
            raise ModelError(message)
        _LOG.warning("%s", message)
