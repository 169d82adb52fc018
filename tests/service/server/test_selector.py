"""The selector: connections that send much take turns, and the others never wait for them."""

import selectors
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from udr_service.server import TurnSelector

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
