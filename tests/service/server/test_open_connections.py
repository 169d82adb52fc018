"""The open connections: the place of a newcomer, and who yields to it."""

import resource
import time
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from udr_service.observability import Metrics
from udr_service.server import Limits, OpenConnections, Place

LOW = 10
"""A file descriptor with many free ones above it."""


@dataclass(eq=False)
class Connection:
    """A connection that only says whether it was closed."""

    connections: OpenConnections
    unsent: int = 0
    untried: bool = True
    silent: bool = True
    closed: bool = field(default=False, init=False)

    def time_out(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.closed = True
        self.connections.remove(self)


def opened(connections: OpenConnections, *addresses: str) -> list[Connection]:
    """Open a connection from each address; all wait."""
    found = [Connection(connections) for _ in addresses]
    for connection, address in zip(found, addresses, strict=True):
        connections.add(connection, address)
    return found


def limited(connections: int = 100, by_address: int = 100, exempt: str = "10.9.0.0/16") -> OpenConnections:
    limits = Limits(connections, by_address, [ip_network(exempt)], 1000, 10.0, 1000)
    return OpenConnections(limits, Metrics([]))


def test_of_several_slow_clients_the_first_is_closed_with_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    connections = limited()
    first, second = opened(connections, "192.0.2.1", "192.0.2.2")
    first.unsent = second.unsent = 2000
    # Alone, a client gets an answer of any size.
    connections.unread(first)
    assert not first.closed and not caplog.messages
    connections.unread(second)
    assert [first.closed, second.closed] == [True, False]
    assert "clients have yet to read take more than 1000 bytes" in caplog.text


@pytest.mark.parametrize(
    ("address", "yields"), [("192.0.2.1", True), ("127.0.0.1", False), ("::1", False), ("10.9.1.1", False)]
)
def test_an_address_at_its_limit_closes_its_own_connection(address: str, yields: bool) -> None:
    connections = limited(by_address=2)
    other, first, second = opened(connections, "198.51.100.1", address, address)
    assert connections.place(address, LOW) is Place.NORMAL
    assert [other.closed, first.closed, second.closed] == [False, yields, False]


def test_an_address_at_its_limit_is_refused_while_all_its_requests_are_answered() -> None:
    connections = limited(by_address=1)
    (busy,) = opened(connections, "192.0.2.1")
    connections.received(busy)
    assert connections.place("192.0.2.1", LOW) is None
    assert connections.place("192.0.2.2", LOW) is Place.NORMAL
    assert not busy.closed


def test_all_addresses_of_a_network_of_ipv6_are_one_client() -> None:
    connections = limited(by_address=1)
    first, other = opened(connections, "2001:db8::1", "2001:db8:0:1::1")
    assert connections.place("2001:db8::2", LOW) is Place.NORMAL
    assert [first.closed, other.closed] == [True, False]


def test_a_closed_connection_counts_no_more() -> None:
    connections = limited(by_address=1)
    (first,) = opened(connections, "192.0.2.1")
    connections.remove(first)
    connections.remove(first)
    assert len(connections) == 0
    assert connections.place("192.0.2.1", LOW) is Place.NORMAL
    assert not first.closed


def test_who_waits_anew_yields_last() -> None:
    connections = limited(connections=2)
    first, second = opened(connections, "127.0.0.1", "127.0.0.1")
    connections.received(first)
    connections.wait(first)
    assert connections.place("127.0.0.1", LOW) is Place.NORMAL
    assert (first.closed, second.closed) == (False, True)


def test_a_connection_takes_the_place_of_its_guest_and_waits_anew() -> None:
    connections = limited(connections=2, by_address=1)
    guest, other = opened(connections, "192.0.2.1", "192.0.2.2")
    connection = Connection(connections)
    connections.replace(guest, connection)
    assert len(connections) == 2
    assert connections.place("192.0.2.3", LOW) is Place.NORMAL and (other.closed, connection.closed) == (True, False)
    assert connections.place("192.0.2.1", LOW) is Place.NORMAL and (guest.closed, connection.closed) == (False, True)


def test_spare_places_are_few() -> None:
    connections = limited(connections=1)
    places = []
    for _ in range(19):
        places.append(connections.place("127.0.0.1", LOW))
        if places[-1] is not None:
            (busy,) = opened(connections, "127.0.0.1")
            connections.received(busy)
    assert places == [Place.NORMAL] + [Place.SPARE] * 16 + [None] * 2


def test_few_free_descriptors_lower_the_limit_until_there_are_more() -> None:
    connections = limited()
    waiting = opened(connections, *["127.0.0.1"] * 5)
    last = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    assert connections.place("127.0.0.1", last) is Place.NORMAL
    assert [connection.closed for connection in waiting] == [True] + [False] * 4
    # The newcomer got the descriptor of the closed one, but there are as few as before.
    opened(connections, "127.0.0.1")
    assert connections.place("127.0.0.1", LOW) is Place.NORMAL
    assert [connection.closed for connection in waiting] == [True] * 2 + [False] * 3
    opened(connections, "127.0.0.1")
    connections.expire()
    assert connections.place("127.0.0.1", LOW) is Place.NORMAL
    assert [connection.closed for connection in waiting] == [True] * 2 + [False] * 3


def test_a_crowd_times_out_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = limited()
    crowd = opened(connections, *["127.0.0.1"] * 100)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    connections.expire()
    assert [each.closed for each in crowd] == [True] * 64 + [False] * 36
    connections.expire()
    assert all(each.closed for each in crowd)


def test_idle_connections_yield_before_those_that_have_waited_for_less() -> None:
    connections = limited(connections=3, by_address=2)
    idle, newer, other = opened(connections, "192.0.2.1", "192.0.2.1", "192.0.2.2")
    connections.idle(idle)
    assert connections.place("192.0.2.1", LOW) is Place.NORMAL
    assert [idle.closed, newer.closed, other.closed] == [True, False, False]
    connections.idle(newer)
    # A request on it, then a new wait: it has waited for less than the other.
    connections.wait(newer)
    opened(connections, "192.0.2.3")
    assert connections.place("192.0.2.4", LOW) is Place.NORMAL
    assert [newer.closed, other.closed] == [False, True]
