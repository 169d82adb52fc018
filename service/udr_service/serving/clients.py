"""Clients: how much of the service each may use, so that one cannot crowd out the others."""

import functools
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from udr.client import is_loopback
from udr_service.auth import Allowance, KeyEntry
from udr_service.errors import ClientLimitError
from udr_service.serving.shares import Debt, Shares, Use

_REMEMBERED = 10_000
"""Clients whose use is remembered, those seen last."""


def _take(taken: Debt, per_second: float, count: int) -> float:
    """Take ``count`` and return 0; or take nothing, and return the seconds until something can be taken.

    A second's worth may be taken at once.
    """
    if not per_second:
        return 0.0
    now = time.monotonic()
    taken.debt = max(0.0, taken.debt - (now - taken.then) * per_second)
    taken.then = now
    if taken.debt and taken.debt + count > max(per_second, 1.0):
        # The debt, not the count: a batch larger than a second's worth is taken when the debt is paid.
        return min(taken.debt, taken.debt + count - max(per_second, 1.0)) / per_second
    taken.debt += count
    return 0.0


class Client:
    """One client, its allowance and what it takes of it. Used on the event loop only.

    Attributes:
        name: the client in words, such as ``the key 'app'``.
    """

    def __init__(self, name: str, allowance: Allowance, shares: Shares | None = None) -> None:
        self.name, self.allowance = name, allowance
        self._shares, self._own = shares or Shares(), Use()

    def _use(self) -> AbstractContextManager[Use]:
        return self._shares.use(self.name, self._own)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Answer a request; raise a ``ClientLimitError`` if it is above a limit."""
        most, rate = self.allowance.concurrent_requests, self.allowance.requests_per_second
        with self._use() as use:
            if most and use.open >= most:
                raise ClientLimitError(f"{self.name} has {use.open} requests in flight; the limit is {most}")
            self._refuse(_take(use.requests, rate, 1), f"{rate:g} requests a second")
            use.open += 1
        try:
            yield
        finally:
            with self._use() as use:
                use.open -= 1

    @contextmanager
    def queue(self, items: int, cost: int, queue_size: int) -> Iterator[int]:
        """Have queries in the queue; raise a ``ClientLimitError`` if they are above a limit.

        Yields what they cost beyond the client's share.
        """
        most = max(1, int(self.allowance.queue_share * queue_size))
        rate = self.allowance.items_per_second
        with self._use() as use:
            # Alone, any request may enter that the queue takes.
            if use.queued and use.queued + cost > most:
                raise ClientLimitError(
                    f"{self.name} has queued what costs {use.queued} and sent {cost} more; its limit is {most}"
                )
            self._refuse(_take(use.items, rate, items), f"{rate:g} queries a second")
            use.queued += cost
        try:
            yield max(0, cost - most)
        finally:
            with self._use() as use:
                use.queued -= cost

    def _refuse(self, seconds: float, limit: str) -> None:
        if seconds:
            wait = math.ceil(seconds)
            raise ClientLimitError(f"{self.name} is above its limit of {limit}; try again in {wait} s", wait)


class Clients:
    """The clients that were seen last, by name."""

    def __init__(self, allowance: Allowance, shares: Shares | None = None) -> None:
        self._allowance, self._shares = allowance, shares
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
            client = self._clients[name] = Client(name, allowance, self._shares)
        self._clients.move_to_end(name)
        while len(self._clients) > _REMEMBERED:
            self._clients.popitem(last=False)
        return client


@functools.lru_cache(_REMEMBERED)
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
