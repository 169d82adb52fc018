"""Shares: several processes hold together what one alone may."""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from multiprocessing.connection import Connection
from typing import Any

import pytest

from udr.errors import OverloadedError
from udr_service.auth import Allowance
from udr_service.errors import BusyError, ClientLimitError
from udr_service.middleware import BodyLimit
from udr_service.observability import Metrics
from udr_service.server import Limits, OpenConnections, Place
from udr_service.serving import Client, Clients, Count, Room, SharedShares, Use, Worker

LOW = 10
"""A file descriptor with many free ones above it."""


class Other:
    """Another worker: a process that inherits the shared memory, and does what the test says."""

    def __init__(self, shares: SharedShares, number: int) -> None:
        self._end, end = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._run, args=(shares, number, end))
        self.process.start()

    @staticmethod
    def _run(shares: SharedShares, number: int, end: "Connection[Any, Any]") -> None:
        shares.become(number)
        kept = Kept(shares)
        while True:
            name, arguments = end.recv()
            end.send(getattr(kept, name)(*arguments))

    def do(self, name: str, *arguments: object) -> Any:
        self._end.send((name, arguments))
        return self._end.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class Kept:
    """What the other worker does."""

    def __init__(self, shares: SharedShares) -> None:
        self.shares, self.open = shares, list[Any]()

    def hold(self, count: Count, own: int) -> int:
        return self.shares.hold(count, own)

    def site(self, name: str, own: int) -> int:
        return self.shares.site(name, own)

    def request(self, name: str, allowance: Allowance) -> str:
        request = Client(name, allowance, self.shares).request()
        try:
            request.__enter__()
        except ClientLimitError as error:
            return str(error)
        self.open.append(request)
        return "open"

    def end(self) -> None:
        while self.open:
            self.open.pop().__exit__(None, None, None)

    def count_up(self, name: str, times: int) -> None:
        for _ in range(times):
            with self.shares.use(name, Use()) as use:
                use.open += 1
                use.items.debt += 1


@pytest.fixture
def shares() -> SharedShares:
    return SharedShares(3)


@pytest.fixture
def other(shares: SharedShares) -> Any:
    other = Other(shares, 1)
    yield other
    other.kill()


def test_counts_are_added_over_workers_and_forgotten_with_them(shares: SharedShares, other: Other) -> None:
    assert shares.hold(Count.QUEUE, 5) == 5
    assert other.do("hold", Count.QUEUE, 7) == 12 == shares.hold(Count.QUEUE, 5)
    assert other.do("hold", Count.READY, 1) == shares.workers == 1
    assert (shares.hold(Count.CONNECTIONS, 3), other.do("hold", Count.CONNECTIONS, 2)) == (3, 5)
    assert shares.has_fewer(3) and not shares.has_fewer(2)
    shares.forget(1)
    assert (shares.hold(Count.QUEUE, 5), shares.workers, shares.has_fewer(3)) == (5, 0, False)


def test_a_clients_requests_count_in_all_workers(shares: SharedShares, other: Other) -> None:
    allowance = Allowance(concurrent_requests=2)
    with Client("the key 'a'", allowance, shares).request():
        assert other.do("request", "the key 'a'", allowance) == "open"
        assert other.do("request", "the key 'a'", allowance) == "the key 'a' has 2 requests in flight; the limit is 2"
        assert other.do("request", "the key 'b'", allowance) == "open"
    assert other.do("request", "the key 'a'", allowance) == "open"
    other.do("end")
    with Client("the key 'a'", allowance, shares).request(), Client("the key 'a'", allowance, shares).request():
        pass


def test_a_rate_is_that_of_all_workers(shares: SharedShares, other: Other) -> None:
    allowance = Allowance(requests_per_second=5)
    client = Client("the address 192.0.2.1", allowance, shares)
    answered = 0
    for _ in range(10):
        answered += other.do("request", client.name, allowance) == "open"
        try:
            with client.request():
                answered += 1
        except ClientLimitError:
            pass
    # More are only paid back while they ask.
    assert 5 <= answered < 20
    # Paid back with time, and to whichever worker asks.
    time.sleep(0.45)
    assert [other.do("request", client.name, allowance) == "open" for _ in range(4)].count(True) >= 2


def test_no_change_is_lost_between_workers(shares: SharedShares, other: Other) -> None:
    third = Other(shares, 2)
    for each in (other, third):
        each._end.send(("count_up", ("a client", 300)))
    for each in (other, third):
        each._end.recv()
    with shares.use("a client", Use()) as use:
        assert (use.open, use.items.debt) == (600, 600)
    third.kill()
    shares.forget(2)
    with shares.use("a client", Use()) as use:
        assert use.open == 300


def test_a_worker_killed_with_the_lock_leaves_it_to_the_others(shares: SharedShares, other: Other) -> None:
    other._end.send(("count_up", ("a client", 10**9)))
    time.sleep(0.3)
    other.kill()
    with shares.use("a client", Use()) as use:
        assert use.open > 0


def test_connections_are_limited_in_all_and_by_address(shares: SharedShares, other: Other) -> None:
    limits = Limits(4, 2, [ip_network("10.9.0.0/16")], 1000, 10.0, 1000)
    connections = OpenConnections(limits, Metrics([]), shares)
    assert other.do("site", "192.0.2.1", 1) == 1
    assert connections.place("192.0.2.1", LOW) is Place.NORMAL
    assert other.do("site", "192.0.2.1", 2) == 3
    # The other worker has them all, so none of this one's can give way.
    assert connections.place("192.0.2.1", LOW) is None
    assert connections.place("192.0.2.2", LOW) is Place.NORMAL
    other.do("hold", Count.CONNECTIONS, 4)
    assert connections.place("192.0.2.2", LOW) is Place.SPARE
    other.do("hold", Count.CONNECTIONS, 20)
    assert connections.place("192.0.2.2", LOW) is None
    assert other.do("hold", Count.CONNECTIONS, 0) == 0


def test_the_queue_and_large_answers_have_one_limit(shares: SharedShares, other: Other) -> None:
    worker, room = Worker(queue_size=8, batch_size=8, batch_tokens=1000, shares=shares), Room(100, shares)
    other.do("hold", Count.QUEUE, 7)
    worker.refuse_if_full()
    other.do("hold", Count.QUEUE, 8)
    with pytest.raises(OverloadedError, match="the queue is full"):
        worker.refuse_if_full()
    worker.close()
    other.do("hold", Count.ANSWERS, 60)
    room.hold(40)
    with pytest.raises(BusyError, match="take 100 bytes, and there is no room for 1 more"):
        room.hold(1)
    room.free(40)
    assert other.do("hold", Count.ANSWERS, 60) == 60
    # Alone, any answer may be written.
    other.do("hold", Count.ANSWERS, 0)
    room.hold(200)


def test_bodies_have_one_limit(shares: SharedShares, other: Other) -> None:
    answered = list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answered.append(len((await receive())["body"]))

    def receiving() -> Callable[[], Awaitable[Any]]:
        messages = [{"type": "http.request", "body": bytes(90_000)}]

        async def receive() -> Any:
            # Then the client waits for the answer.
            return messages.pop() if messages else await asyncio.Event().wait()

        return receive

    async def send(message: Any) -> None:
        pass

    limit = BodyLimit(app, limit=100_000, total=1_000_000, seconds=1, shares=shares)
    scope = {"type": "http", "headers": [(b"content-length", b"90000")]}
    other.do("hold", Count.BODIES, 900_000)
    with pytest.raises(BusyError, match="as many bytes of bodies as it may"):
        asyncio.run(limit(scope, receiving(), send))
    assert other.do("hold", Count.BODIES, 800_000) == 800_000 and answered == []
    asyncio.run(limit(scope, receiving(), send))
    assert answered == [90_000] and other.do("hold", Count.BODIES, 0) == 0


def test_clients_beyond_the_table_take_the_places_of_those_that_hold_nothing(shares: SharedShares) -> None:
    clients = Clients(Allowance(concurrent_requests=1), shares)
    first = clients.of_address("192.0.2.1")
    with first.request():
        for number in range(20_000):
            with shares.use(f"client {number}", Use()):
                pass
        with pytest.raises(ClientLimitError), Client(first.name, first.allowance, shares).request():
            pass
