"""The key that a request presents, checked before it is answered."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from udr_service.auth import KeyFile, allowed, needed, presented
from udr_service.errors import ForbiddenError, UnauthorizedError
from udr_service.serving import record_of


class Access:
    """Lets through what the request's key allows.

    Args:
        app: what answers.
        keys: the keys that are taken, as they are now.
    """

    def __init__(self, app: ASGIApp, keys: KeyFile) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            self._check(scope)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        path = scope["path"]
        if needed(path) is None:
            return
        key = presented(Headers(scope=scope))
        entry = None if key is None else self._keys.ring.entry_of(key)
        if entry is None:
            found = "none was given" if key is None else "this one is not known"
            raise UnauthorizedError(f"this service takes requests with its keys only, and {found}")
        record_of(scope).key = entry.name
        if not allowed(entry.scope, path):
            raise ForbiddenError(f"the key {entry.name!r} may {entry.scope}; this takes a key that may {needed(path)}")
