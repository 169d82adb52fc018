"""Bodies and clients: read each body whole, within limits; stop working for a client that hangs up."""

import asyncio
import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.errors import BodyTooLargeError, BusyError, ContentError, SlowRequestError
from udr_service.serving import FREE_BODY, Count, Shares

_SMALL = 64 * 1024
"""Bodies up to this many bytes share the last sixteenth of what all bodies may hold: large ones leave them room."""

_SLOW_SECONDS = 1.0
"""A body that has not arrived after this time yields to a newcomer."""


@dataclass(eq=False, slots=True)
class _Body:
    """A body in flight: its bytes, held or announced, and what ends its arrival."""

    timer: asyncio.Timeout
    size: int = 0
    evicted: bool = False
    started: float = field(default_factory=time.monotonic)


class _Bodies:
    """All bodies in flight. Used on the event loop only."""

    def __init__(self, limit: int, shares: Shares) -> None:
        self._limit, self._held, self._shares = limit, 0, shares
        self._arriving: dict[_Body, None] = {}

    @contextmanager
    def enter(self, seconds: float) -> Iterator[_Body]:
        """Hold a body until the block ends; it has ``seconds`` to arrive."""
        body = _Body(asyncio.timeout(seconds))
        self._arriving[body] = None
        try:
            yield body
        finally:
            self.arrived(body)
            self.free(body)

    def arrived(self, body: _Body) -> None:
        """A body is complete, or will never be."""
        self._arriving.pop(body, None)

    def grow(self, body: _Body, size: int) -> None:
        """Hold ``size`` bytes of a body; if there is no room, the slow bodies yield.

        Raises:
            BusyError: there is no room.
        """
        if size <= body.size:
            return
        room = self._limit if size <= _SMALL else self._limit - self._limit // 16
        more = size - body.size
        now = time.monotonic()
        while self._shares.hold(Count.BODIES, self._held + more) > room:
            oldest = next(iter(self._arriving), None)
            if oldest is None or oldest is body or now - oldest.started < _SLOW_SECONDS:
                self._shares.hold(Count.BODIES, self._held)
                raise BusyError("the service holds as many bytes of bodies as it may; try again later")
            self._evict(oldest)
        self._held += more
        body.size = size

    def _evict(self, body: _Body) -> None:
        self.arrived(body)
        self.free(body)
        body.evicted = True
        body.timer.reschedule(0)

    def free(self, body: _Body) -> None:
        """Hold a body no more."""
        self._held -= body.size
        body.size = 0
        self._shares.hold(Count.BODIES, self._held)


class BodyLimit:
    """Reads a request's body before answering it, and cancels the answer when the client disconnects.

    It refuses a body in an encoding that it does not read, one above the limit (by its declared length or, without
    one, by the bytes received), one that takes too long, and one for which all bodies together leave no room. FastAPI's
    ``max_body_size`` would answer a declared length in plain text, past all exception handlers.

    Args:
        app: the application.
        limit: the most bytes of a body.
        total: the most bytes of all bodies in flight.
        seconds: how long a body may take to arrive.
        shares: what other workers hold.
    """

    def __init__(self, app: ASGIApp, *, limit: int, total: int, seconds: float, shares: Shares | None = None) -> None:
        self._app, self._limit, self._seconds = app, limit, seconds
        self._bodies = _Bodies(max(total, limit + total // 16), shares or Shares())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._bodies.enter(self._seconds) as body:
            messages = await self._read(scope, receive, body)
            if not messages:
                return
            scope[FREE_BODY] = functools.partial(self._bodies.free, body)
            answer = asyncio.ensure_future(self._app(scope, _replay(messages, receive), send))
            disconnect = asyncio.ensure_future(_disconnected(receive))
            try:
                await asyncio.wait((answer, disconnect), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (answer, disconnect):
                    task.cancel()
            with suppress(asyncio.CancelledError):
                await answer

    async def _read(self, scope: Scope, receive: Receive, body: _Body) -> list[Message]:
        """Return the body as one message; none if the client disconnects first."""
        headers = Headers(scope=scope)
        _refuse_encoding(headers)
        declared = headers.get("content-length", "")
        # Eighteen digits exceed any limit, and keep int() cheap.
        expected = int(declared[:18]) if declared.isdecimal() else 0
        if expected > self._limit:
            raise BodyTooLargeError(self._limit)
        self._bodies.grow(body, expected)
        content, more = bytearray(), True
        try:
            async with body.timer:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return []
                    content += message.get("body", b"")
                    if len(content) > self._limit:
                        raise BodyTooLargeError(self._limit)
                    self._bodies.grow(body, len(content))
                    more = message.get("more_body", False)
        except TimeoutError as error:
            if body.evicted:
                raise BusyError("the body arrives slowly, and others need its room; try again later") from error
            raise SlowRequestError(f"the body did not arrive within {self._seconds:g} seconds") from error
        self._bodies.arrived(body)
        return [{"type": "http.request", "body": content, "more_body": False}]


def _refuse_encoding(headers: Headers) -> None:
    """Raise ``ContentError`` if the body is compressed, or is text in another encoding than UTF-8."""
    encoding = headers.get("content-encoding", "").strip() or "identity"
    if encoding.lower() != "identity":
        raise ContentError(f"the body has Content-Encoding {encoding[:40]!r}; send it without compression")
    declared = headers.get("content-type", "")
    if "charset" not in declared.lower():
        # Parsing it would take a tenth of the time that a request spends outside the engine and the search.
        return
    media_type = EmailMessage()
    media_type["Content-Type"] = declared
    charset = media_type.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise ContentError(f"the body is declared as charset {charset[:40]!r}; send it in UTF-8")


def _replay(messages: list[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        # Handed over, so that who reads the body can also drop it.
        return messages.pop() if messages else await receive()

    return replay


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
