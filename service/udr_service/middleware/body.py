"""Bodies and clients: read each body whole, within a limit; stop working for a client that hangs up."""

import asyncio
from contextlib import suppress
from email.message import EmailMessage

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.errors import BodyTooLargeError, ContentError


class BodyLimit:
    """Reads a request's body before answering it, and cancels the answer when the client disconnects.

    It refuses a body in an encoding that it does not read, and one above the limit: by its declared length or, without
    one, by the bytes received. FastAPI's ``max_body_size`` would answer a declared length in plain text, past all
    exception handlers.
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
        answer = asyncio.ensure_future(self._app(scope, _replay(body, receive), send))
        disconnect = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((answer, disconnect), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answer, disconnect):
                task.cancel()
        with suppress(asyncio.CancelledError):
            await answer

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the body; None if the client disconnects first."""
        headers = Headers(scope=scope)
        _refuse_encoding(headers)
        declared = headers.get("content-length", "")
        # Eighteen digits exceed any limit, and keep int() cheap.
        if declared.isdecimal() and int(declared[:18]) > self._limit:
            raise BodyTooLargeError(self._limit)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise BodyTooLargeError(self._limit)
            more = message.get("more_body", False)
        return bytes(body)


def _refuse_encoding(headers: Headers) -> None:
    """Raise ``ContentError`` if the body is compressed, or is text in another encoding than UTF-8."""
    encoding = headers.get("content-encoding", "").strip() or "identity"
    if encoding.lower() != "identity":
        raise ContentError(f"the body has Content-Encoding {encoding[:40]!r}; send it without compression")
    media_type = EmailMessage()
    media_type["Content-Type"] = headers.get("content-type", "application/json")
    charset = media_type.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise ContentError(f"the body is declared as charset {charset[:40]!r}; send it in UTF-8")


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
