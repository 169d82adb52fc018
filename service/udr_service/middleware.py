"""What every request and every answer passes: the limit on bodies, and the header with the index version."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from udr_service.errors import BodyTooLargeError

INDEX_VERSION = "X-Udr-Index-Version"


class IndexVersionHeader:
    """Names the index version on every answer below ``/v1``."""

    def __init__(self, app: ASGIApp, version: str) -> None:
        self._app, self._version = app, version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[INDEX_VERSION] = self._version
            await send(message)

        of_ours = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await self._app(scope, receive, send_named if of_ours else send)


class BodyLimit:
    """Refuses a body above a number of bytes, by what it declares or, failing that, by what has come.

    FastAPI has ``max_body_size`` for this, but its answer to a body that declares its length is plain text,
    whatever the exception handlers say; here it is a problem as any other.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            # Eighteen digits are more than any limit, and few enough for int() whatever was sent.
            if declared.isdecimal() and int(declared[:18]) > self._limit:
                raise BodyTooLargeError(self._limit)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLargeError(self._limit)
            return message

        await self._app(scope, receive_limited, send)
