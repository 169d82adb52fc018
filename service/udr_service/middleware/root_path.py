"""The root path: what a proxy puts before the paths of the service."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Takes the root path from requests whose proxy has left it; everything behind it sees the service's own paths.

    Args:
        app: what answers them.
        root_path: such as ``/udr``, as ``Settings`` checks it.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path
        self._below, self._raw_below = f"{root_path}/", f"{root_path}/".encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            # In place: the server and the routes share the scope.
            if scope["path"].startswith(self._below):
                scope["path"] = scope["path"].removeprefix(self._root_path)
                raw = scope["raw_path"]
                scope["raw_path"] = raw[len(self._root_path) :] if raw.startswith(self._raw_below) else raw
            elif scope["path"] == self._root_path:
                scope["path"], scope["raw_path"] = "/", b"/"
        await self._app(scope, receive, send)
