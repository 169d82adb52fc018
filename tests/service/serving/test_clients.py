"""Clients: what each may take, by key or address."""

import time
from contextlib import ExitStack

import pytest

from udr_service.auth import Allowance, Scope, new_key
from udr_service.errors import ClientLimitError
from udr_service.serving import Client, Clients


class Clock:
    def __init__(self) -> None:
        # After that of any client, which has the real one.
        self.now = time.monotonic() + 60

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time, which goes on as a test says."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def test_requests_a_second(clock: Clock) -> None:
    client = Client("the key 'app'", Allowance(requests_per_second=20))
    taken = 0
    for _ in range(50):
        try:
            with client.request():
                taken += 1
        except ClientLimitError as error:
            assert str(error) == "the key 'app' is above its limit of 20 requests a second; try again in 1 s"
        clock.now += 0.01
    # A second's worth at once, and then half a second's.
    assert 29 <= taken <= 30


def test_items_a_second_let_a_large_batch_pass_when_nothing_is_owed(clock: Clock) -> None:
    client = Client("the key 'app'", Allowance(items_per_second=100))
    with client.queue(130, 1, 512):
        pass
    with pytest.raises(ClientLimitError, match="100 queries a second"), client.queue(1, 1, 512):
        pass
    clock.now += 0.35
    with client.queue(1, 1, 512):
        pass


def test_concurrent_requests() -> None:
    client = Client("the address 10.0.0.1", Allowance(concurrent_requests=2))
    with client.request(), client.request():
        with pytest.raises(ClientLimitError, match=r"10\.0\.0\.1 has 2 requests in flight; the limit is 2"):
            with client.request():
                pass
    with client.request():
        pass


def test_a_share_of_the_queue() -> None:
    client = Client("the key 'app'", Allowance(queue_share=0.5))
    with client.queue(1, 40, 100), client.queue(1, 10, 100):
        with (
            pytest.raises(ClientLimitError, match="costs 50 and sent 1 more; its limit is 50"),
            client.queue(1, 1, 100),
        ):
            pass
    # Alone, any request that the queue takes.
    with client.queue(64, 90, 100):
        pass


def test_a_refused_request_takes_nothing() -> None:
    client = Client("the key 'app'", Allowance(items_per_second=10, queue_share=0.1))
    with ExitStack() as stack:
        stack.enter_context(client.queue(1, 10, 100))
        for _ in range(50):
            with pytest.raises(ClientLimitError, match="its limit is 10"):
                stack.enter_context(client.queue(1, 1, 100))
        stack.close()
        with client.queue(5, 1, 100):
            pass


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "/run/udr.sock", ""])
def test_this_machine_has_no_limits(address: str) -> None:
    clients = Clients(Allowance(concurrent_requests=1))
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(clients.of_address(address).request())
        other = clients.of_address("10.0.0.1")
        stack.enter_context(other.request())
        with pytest.raises(ClientLimitError, match="the limit is 1"), other.request():
            pass


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_client_is_an_address_or_the_network_of_one_site(first: str, second: str, same: bool) -> None:
    clients = Clients(Allowance())
    assert (clients.of_address(first) is clients.of_address(second)) is same


def test_a_key_is_a_client_whatever_its_address() -> None:
    clients = Clients(Allowance())
    (_, app), (_, other) = new_key("app", Scope.READ), new_key("other", Scope.READ)
    assert clients.of_key(app) is clients.of_key(app) is not clients.of_key(other)
    limited = app.model_copy(update={"concurrent_requests": 1})
    assert clients.of_key(limited).allowance == Allowance(concurrent_requests=1)
