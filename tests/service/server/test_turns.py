"""Turns of the event loop: a few starts in each, and connections that send much one after the other."""

import asyncio
import selectors
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.service.conftest import on_event_loop
from udr_service.server import Starts, TurnSelector

CROWD = 24


@pytest.fixture
def pairs() -> Iterator[list[socket.socket]]:
    """Yield sockets that are always ready to be read."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(CROWD + 1):
            near, far = (stack.enter_context(end) for end in socket.socketpair())
            far.send(b"x")
            sockets.append(near)
        yield sockets


@pytest.fixture
def selector(pairs: list[socket.socket]) -> Iterator[TurnSelector]:
    with TurnSelector() as selector:
        for each in pairs:
            selector.register(each, selectors.EVENT_READ)
        for each in pairs[1:]:
            selector.sends_much(each.fileno(), True)
        yield selector


def ready(selector: TurnSelector) -> list[object]:
    return [key.fileobj for key, _ in selector.select(0)]


def test_the_crowd_takes_turns_and_who_is_not_in_it_is_always_ready(
    selector: TurnSelector, pairs: list[socket.socket]
) -> None:
    turns = [ready(selector) for _ in range(6)]
    assert [len(turn) for turn in turns] == [5] * 6
    assert all(pairs[0] in turn for turn in turns)
    # Four places in each of six turns, for 24: all are handled equally often.
    assert Counter(each for turn in turns for each in turn if each is not pairs[0]) == dict.fromkeys(pairs[1:], 1)


def test_who_sends_no_more_is_in_the_crowd_no_more(selector: TurnSelector, pairs: list[socket.socket]) -> None:
    for each in pairs[1:9]:
        selector.sends_much(each.fileno(), False)
    assert set(pairs[:9]) < set(ready(selector))


def test_a_few_that_send_much_do_not_wait(selector: TurnSelector, pairs: list[socket.socket]) -> None:
    for each in pairs[5:]:
        selector.sends_much(each.fileno(), False)
    assert set(ready(selector)) == set(pairs)


@on_event_loop
async def test_a_crowd_is_started_over_several_turns() -> None:
    starts, started = Starts(), list[int]()
    for number in range(20):
        starts.add(lambda number=number: started.append(number))  # type: ignore[misc]
    sizes = [len(started)]
    for _ in range(4):
        await asyncio.sleep(0)
        sizes.append(len(started))
    assert sizes == [8, 16, 20, 20, 20]
    assert started == list(range(20))


@on_event_loop
async def test_a_single_request_starts_at_once() -> None:
    starts, started = Starts(), list[int]()
    for number in range(3):
        starts.add(lambda number=number: started.append(number))  # type: ignore[misc]
        assert started[-1] == number
        await asyncio.sleep(0)
        await asyncio.sleep(0)
