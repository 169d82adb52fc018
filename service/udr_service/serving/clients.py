"""Clients: how much of the service each may use, so that one cannot crowd out the others."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from udr.client import is_loopback
from udr_service.auth import Allowance, KeyEntry
from udr_service.errors import ClientLimitError

_REMEMBERED = 10_000
"""Clients whose use is remembered, those seen last."""


class _Rate:
    """A rate, measured by what was taken beyond it; a second's worth may be taken at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second, self._debt, self._then = per_second, 0.0, time.monotonic()

    def take(self, count: int) -> float:
        """Take ``count`` and return 0; or take nothing, and return the seconds until something can be taken."""
        if not self._per_second:
            return 0.0
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._then) * self._per_second)
        self._then = now
        if self._debt and self._debt + count > max(self._per_second, 1.0):
            # The debt, not the count: a batch larger than a second's worth is taken when the debt is paid.
            return min(self._debt, self._debt + count - max(self._per_second, 1.0)) / self._per_second
        self._debt += count
        return 0.0


class Client:
    """One client, its allowance and what it takes of it. Used on the event loop only.

    Attributes:
        name: the client in words, such as ``the key 'app'``.
    """

    def __init__(self, name: str, allowance: Allowance) -> None:
        self.name, self.allowance = name, allowance
        self._requests, self._items = _Rate(allowance.requests_per_second), _Rate(allowance.items_per_second)
        self.open, self._queued = 0, 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Answer a request; raise a ``ClientLimitError`` if it is above a limit."""
        most = self.allowance.concurrent_requests
        if most and self.open >= most:
            raise ClientLimitError(f"{self.name} has {self.open} requests in flight; the limit is {most}")
        self._refuse(self._requests.take(1), f"{self.allowance.requests_per_second:g} requests a second")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    @contextmanager
    def queue(self, items: int, cost: int, queue_size: int) -> Iterator[int]:
        """Have queries in the queue; raise a ``ClientLimitError`` if they are above a limit.

        Yields what they cost beyond the client's share.
        """
        most = max(1, int(self.allowance.queue_share * queue_size))
        # Alone, any request may enter that the queue takes.
        if self._queued and self._queued + cost > most:
            raise ClientLimitError(
                f"{self.name} has queued what costs {self._queued} and sent {cost} more; its limit is {most}"
            )
        self._refuse(self._items.take(items), f"{self.allowance.items_per_second:g} queries a second")
        self._queued += cost
        try:
            yield max(0, cost - most)
        finally:
            self._queued -= cost

    def _refuse(self, seconds: float, limit: str) -> None:
        if seconds:
            raise ClientLimitError(f"{self.name} is above its limit of {limit}; try again in {math.ceil(seconds)} s")


class Clients:
    """The clients that were seen last, by name."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._clients: OrderedDict[str, Client] = OrderedDict()

    def of_key(self, entry: KeyEntry) -> Client:
        """Return the client with a key."""
        return self._client(f"the key {entry.name!r}", entry.allowance(self._allowance))

    def of_address(self, address: str) -> Client:
        """Return the client with an address; this machine's own, and what is no address, have no limits."""
        client = network(address)
        if client is None or is_loopback(address):
            return Client("this machine", Allowance())
        return self._client(f"the address {client}", self._allowance)

    def _client(self, name: str, allowance: Allowance) -> Client:
        client = self._clients.get(name)
        if client is None or client.allowance != allowance:
            client = self._clients[name] = Client(name, allowance)
        self._clients.move_to_end(name)
        while len(self._clients) > _REMEMBERED:
            self._clients.popitem(last=False)
        return client


def network(address: str) -> str | None:
    """Return what stands for one client: an IPv4 address, or the /64 network of an IPv6 address, which one site has.

    None is no address, such as the path of a Unix socket.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
