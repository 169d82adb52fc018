"""The open connections: how many there may be, and which of them yields to a newcomer."""

import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import chain, islice
from typing import Protocol

from udr.client import is_loopback
from udr_service.observability import Metrics, Refusal
from udr_service.server.turns import Starts, TurnSelector
from udr_service.serving import Count, Shares, network

_SPARE = 16
"""Connections beyond the limit, for the probes."""

_READ_BYTES = 16_384
"""What is read from a connection at once; then the others have their turn."""

_DISCARD_BYTES = 131_072
"""The same, of what nobody reads."""

_EXPIRED = 64
"""Connections that time out at once: a crowd of refusals would hold the event loop."""

_OTHER_FILES = 4096
"""File descriptors for the index, models and logs: an index has a few files for each task."""

_FILES = 256
"""File descriptors that connections leave free: those that are closed become free only in a later turn."""

_TELL_SECONDS = 1.0
"""How often at most the log tells of connections that are closed."""

_LOG = logging.getLogger(__name__)


class Place(Enum):
    """The place of a connection: within the limit, or among the spare ones, where only the probes answer."""

    NORMAL = auto()
    SPARE = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there may be, and what each may take before its request is complete.

    Attributes:
        connections: open at once.
        by_address: open at once from one address, or /64 network of IPv6; loopback addresses have no such limit.
        exempt: further networks without it: proxies, which speak for many.
        head_bytes: the most bytes of a request line and its headers.
        receive_seconds: how long a request may take to arrive, and an answer may wait without being read.
        unsent_bytes: what may wait for clients to read it, in all.
    """

    connections: int
    by_address: int
    exempt: Sequence[IPv4Network | IPv6Network]
    head_bytes: int
    receive_seconds: float
    unsent_bytes: int


class Waiting(Protocol):
    """A connection that waits for its client."""

    @property
    def unsent(self) -> int:
        """The bytes that its client has not read."""

    @property
    def untried(self) -> bool:
        """Whether no request has begun on it."""

    @property
    def silent(self) -> bool:
        """Whether uvicorn has nothing to finish on it."""

    def time_out(self) -> None:
        """Refuse the request that takes too long to arrive, or close a connection that never sent one."""

    def abort(self) -> None:
        """Close at once."""


class OpenConnections:
    """The open connections, and since when each has waited: for a complete request, or for its client to read.

    At a limit, the connection that has waited longest without a complete request is closed, and the newcomer served.
    Used on the event loop only.

    Attributes:
        limits: the limits.
        buffer: what every connection in turn reads into, and parses before the next one reads.
        discarded: the same, for what nobody reads: more at once.
        selector: the event loop's, where connections that send much take turns.
        starts: starts their requests.
    """

    def __init__(self, limits: Limits, metrics: Metrics, shares: Shares | None = None) -> None:
        self.limits, self._metrics, self._shares = limits, metrics, shares or Shares()
        self.discarded = memoryview(bytearray(_DISCARD_BYTES))
        self.buffer = self.discarded[:_READ_BYTES]
        self.selector, self.starts = TurnSelector(), Starts()
        # What stands for the client: its address, or a network of IPv6.
        self._sites: dict[Waiting, str] = {}
        self._counts: Counter[str] = Counter()
        # Both in the order in which they began to wait.
        self._waiting: dict[Waiting, float] = {}
        # Those that wait for another request, for longer than one may take to arrive; they waited longest.
        self._idle: dict[Waiting, None] = {}
        self._unread: dict[Waiting, tuple[float, int]] = {}
        self._told = -math.inf
        self._descriptors = _descriptors(limits.connections)
        # Fewer than the limit while the process has few descriptors left.
        self._most = limits.connections

    def __len__(self) -> int:
        return len(self._sites)

    def place(self, address: str, descriptor: int) -> Place | None:
        """Return the place of one more connection, if need be after closing the longest waiting one; None is refusal.

        Args:
            address: the newcomer's. At the limit of one address, one of its own connections is closed.
            descriptor: the newcomer's, always the lowest free one: a high one means that few are left.
        """
        if descriptor >= self._descriptors - min(_FILES, self._descriptors // 4):
            self._most = max(1, min(self._most, len(self)))
        site = _site(address)
        limited = self._limited(address)
        if limited and self._shares.site(site, self._counts[site] + 1) > self.limits.by_address:
            self._shares.site(site, self._counts[site])
            own = (connection for connection in chain(self._idle, self._waiting) if self._sites[connection] == site)
            if not _abort_first(own):
                return None
        while (others := self._others()) >= self._most and self.close_longest():
            pass
        if others < self._most:
            return Place.NORMAL
        if others < self._most + _SPARE:
            return Place.SPARE
        self._shares.hold(Count.CONNECTIONS, len(self))
        if limited:
            self._shares.site(site, self._counts[site])
        return None

    def _others(self) -> int:
        """Return how many other connections there are, in all workers, while one more is being taken."""
        return self._shares.hold(Count.CONNECTIONS, len(self) + 1) - 1

    def _limited(self, address: str) -> bool:
        if is_loopback(address):
            return False
        return not any(ip_address(address) in network for network in self.limits.exempt)

    def close_longest(self) -> bool:
        """Close the connection that has waited longest for a request; return whether any waits."""
        return _abort_first(chain(self._idle, self._waiting))

    def untried(self) -> bool:
        """Return whether any connection has not sent its first request yet."""
        return any(connection.untried for connection in self._waiting)

    def close_silent(self) -> None:
        """Close the connections that uvicorn does not close: it has had no request from them."""
        for connection in [each for each in chain(self._idle, self._waiting) if each.silent]:
            connection.abort()

    def add(self, connection: Waiting, address: str) -> None:
        """Count a connection, which waits for its first request."""
        self._sites[connection] = site = _site(address)
        self._counts[site] += 1
        self._count(site)
        self.wait(connection)

    def _count(self, site: str) -> None:
        self._metrics.connections_changed(len(self))
        self._shares.hold(Count.CONNECTIONS, len(self))
        if not is_loopback(site):
            self._shares.site(site, self._counts[site])

    def replace(self, guest: Waiting, connection: Waiting) -> None:
        """A connection takes the place of its guest, and waits for its first request; the counts stay."""
        self._sites[connection] = self._sites.pop(guest)
        self.received(guest)
        self.wait(connection)

    def remove(self, connection: Waiting) -> None:
        """Count a closed connection no more."""
        site = self._sites.pop(connection, None)
        if site is not None:
            self._counts[site] -= 1
            self._count(site)
            if not self._counts[site]:
                # Or every address that ever called would be kept.
                del self._counts[site]
        self.received(connection)
        self._unread.pop(connection, None)

    def wait(self, connection: Waiting) -> None:
        """A connection waits from now on: for its next request, or for the rest of one that has begun."""
        self.received(connection)
        if connection in self._sites:
            self._waiting[connection] = time.monotonic()

    def idle(self, connection: Waiting) -> None:
        """A connection that has timed out may wait on for its next request, until it is needed or uvicorn closes it."""
        self._waiting.pop(connection, None)
        self._idle[connection] = None

    def received(self, connection: Waiting) -> None:
        """A connection's request is complete, or another one begins."""
        self._waiting.pop(connection, None)
        self._idle.pop(connection, None)

    def unread(self, connection: Waiting) -> None:
        """A connection's client is slower than its answer; if too much waits in all, the first of several is closed."""
        self._unread[connection] = now, _ = time.monotonic(), connection.unsent
        # A single one may have any answer, or none could read it.
        if len(self._unread) > 1 and sum(other.unsent for other in self._unread) > self.limits.unsent_bytes:
            _abort_first(self._unread)
            if now - self._told > _TELL_SECONDS:
                self._told = now
                _LOG.warning(
                    "answers that clients have yet to read take more than %d bytes, so the connection that has waited "
                    "longest for its client is closed; max_bodies_bytes sets the limit",
                    self.limits.unsent_bytes,
                )

    def read(self, connection: Waiting) -> None:
        """A connection's client has read its answer, or most of it."""
        self._unread.pop(connection, None)

    def refused(self) -> None:
        """Count a request that was refused before it reached the application."""
        self._metrics.refused(Refusal.CONNECTION)

    def expire(self) -> None:
        """Time out what has waited too long; to be called several times a second."""
        self._most = min(self._most + 1, self.limits.connections)
        now, limit = time.monotonic(), self.limits.receive_seconds
        for connection, since in list(islice(self._waiting.items(), _EXPIRED)):
            if now - since < limit:
                break
            connection.time_out()
        for connection, (since, unsent) in list(self._unread.items()):
            if now - since >= limit:
                if connection.unsent >= unsent:
                    connection.abort()
                else:
                    self._unread[connection] = now, connection.unsent


def _site(address: str) -> str:
    return network(address) or address


def _abort_first(connections: Iterable[Waiting]) -> bool:
    first = next(iter(connections), None)
    if first is not None:
        first.abort()
    return first is not None


def _descriptors(connections: int) -> int:
    """Return how many files the process may open, after raising its soft limit for so many connections if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OTHER_FILES + connections + _SPARE + _FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
