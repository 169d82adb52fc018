"""Bodies and clients: a body is read whole, within its limit; a client that hangs up is not worked for."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.errors import BodyTooLargeError


class BodyLimit:
    """Reads a request's body before anything is done for it, and stops doing it when the client is gone.

    A body above the limit is refused by what it declares or, failing that, by what has come. FastAPI has
    ``max_body_size`` for this, but its answer to a body that declares its length is plain text, whatever the exception
    handlers say; here it is a problem as any other.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._read(scope, receive)
        if body is None:
            return
        answering = asyncio.ensure_future(self._app(scope, _replay(body, receive), send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Whichever is not done is of no use now: an answer to nobody, or a watch over an answered request.
            for task in (answering, leaving):
                task.cancel()
        with suppress(asyncio.CancelledError):
            await answering

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None when the client left before it was whole."""
        declared = Headers(scope=scope).get("content-length", "")
        # Eighteen digits are more than any limit, and few enough for int() whatever was sent.
        if declared.isdecimal() and int(declared[:18]) > self._limit:
            raise BodyTooLargeError(self._limit)
        parts: list[bytes] = []
        received, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            received += len(parts[-1])
            if received > self._limit:
                raise BodyTooLargeError(self._limit)
            more = message.get("more_body", False)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
