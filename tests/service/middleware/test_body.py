"""Bodies: their limits alone and in all, and how long they may take."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from tests.service.conftest import on_event_loop
from udr_service.errors import BusyError, SlowRequestError
from udr_service.middleware import BodyLimit

LARGE = 100_000
"""More than a small body has."""


class Application:
    """Reads the body, then waits for ``go``."""

    def __init__(self) -> None:
        self.go, self.sizes = asyncio.Event(), list[int]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.sizes.append(len((await receive())["body"]))
        await self.go.wait()


class Body:
    """A body that arrives when the test says so."""

    def __init__(self, limited: BodyLimit, declared: int | None = None) -> None:
        self.parts: asyncio.Queue[Message] = asyncio.Queue()
        headers = [] if declared is None else [(b"content-length", str(declared).encode())]
        scope: dict[str, Any] = {"type": "http", "headers": headers}
        self.answer = asyncio.ensure_future(limited(scope, self.parts.get, self._send))

    async def _send(self, message: Message) -> None:
        pass

    async def arrive(self, size: int, *, more: bool = False) -> None:
        self.parts.put_nowait({"type": "http.request", "body": bytes(size), "more_body": more})
        await asyncio.sleep(0.01)


def limited(app: Application, seconds: float = 5.0) -> BodyLimit:
    return BodyLimit(app, limit=4 * LARGE, total=16 * LARGE, seconds=seconds)


async def large_bodies(limit: BodyLimit, count: int) -> AsyncIterator[Body]:
    for _ in range(count):
        body = Body(limit, 4 * LARGE)
        await body.arrive(4 * LARGE)
        yield body


@on_event_loop
async def test_bodies_above_the_total_are_refused_before_they_are_read() -> None:
    app = Application()
    limit = limited(app)
    held = [body async for body in large_bodies(limit, 3)]
    with pytest.raises(BusyError, match="as many bytes of bodies as it may"):
        await Body(limit, 4 * LARGE).answer
    assert app.sizes == [4 * LARGE] * 3
    # The last sixteenth is for small bodies.
    small = Body(limit, 1000)
    await small.arrive(1000)
    assert app.sizes[3:] == [1000]
    app.go.set()
    await asyncio.gather(*(body.answer for body in [*held, small]))
    again = Body(limit, 4 * LARGE)
    await again.arrive(4 * LARGE)
    await again.answer
    assert app.sizes[4:] == [4 * LARGE]


@on_event_loop
async def test_bodies_without_a_length_count_as_they_arrive() -> None:
    app = Application()
    limit = limited(app)
    held = [body async for body in large_bodies(limit, 3)]
    growing = Body(limit)
    await growing.arrive(LARGE, more=True)
    await growing.arrive(2 * LARGE, more=True)
    await growing.arrive(LARGE, more=True)
    with pytest.raises(BusyError):
        await growing.answer
    app.go.set()
    await asyncio.gather(*(body.answer for body in held))


@on_event_loop
async def test_slow_bodies_yield_to_newcomers() -> None:
    app = Application()
    limit = limited(app)
    slow = [Body(limit, 4 * LARGE) for _ in range(3)]
    await asyncio.sleep(0.01)
    with pytest.raises(BusyError):
        await Body(limit, 4 * LARGE).answer
    await asyncio.sleep(1.05)
    newcomer = Body(limit, 4 * LARGE)
    await newcomer.arrive(4 * LARGE)
    assert app.sizes == [4 * LARGE]
    with pytest.raises(BusyError, match="arrives slowly"):
        await slow[0].answer
    assert not slow[1].answer.done()
    app.go.set()
    for body in slow[1:]:
        await body.arrive(4 * LARGE)
        await body.answer
    await newcomer.answer


@on_event_loop
async def test_a_body_that_takes_too_long_is_refused() -> None:
    body = Body(limited(Application(), seconds=0.1), 1000)
    await body.arrive(10, more=True)
    with pytest.raises(SlowRequestError, match=r"within 0\.1 seconds"):
        await body.answer


@on_event_loop
async def test_a_body_above_its_own_limit_is_refused() -> None:
    limit = limited(Application())
    with pytest.raises(HTTPException, match="larger than 400000 bytes"):
        await Body(limit, 4 * LARGE + 1).answer
    growing = Body(limit)
    await growing.arrive(4 * LARGE + 1, more=True)
    with pytest.raises(HTTPException, match="larger than 400000 bytes"):
        await growing.answer
