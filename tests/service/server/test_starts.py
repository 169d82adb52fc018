"""Starts: a few in each turn of the event loop, in order."""

import asyncio

from tests.service.conftest import on_event_loop
from udr_service.server import Starts


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
