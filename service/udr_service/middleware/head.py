"""HEAD: what GET answers, without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Answers HEAD by the routes of GET; the server leaves the body out, since it sees HEAD again when it sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # In place: the server, the recorder and the routes share the scope.
        scope["method"] = "GET"

        async def send_as_head(message: Message) -> None:
            scope["method"] = "HEAD"
            await send(message)

        await self._app(scope, receive, send_as_head)
