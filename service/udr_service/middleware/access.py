"""Access: what a request needs before it is answered, a key or this machine's own host name."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from udr_service.auth import KeyFile, allowed, is_own_name, needed, presented
from udr_service.errors import ForbiddenError, ForeignHostError, UnauthorizedError
from udr_service.serving import record_of


class Access:
    """Passes requests whose API key allows their path."""

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
            found = "the request has none" if key is None else "the one in the request is unknown"
            raise UnauthorizedError(f"this service requires an API key; {found}")
        record_of(scope).key = entry.name
        if not allowed(entry.scope, path):
            raise ForbiddenError(
                f"the key {entry.name!r} has the scope {entry.scope}; this path requires {needed(path)}"
            )


class TrustedHosts:
    """Passes requests whose ``Host`` header names this machine; for a service without keys."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not is_own_name(host):
                raise ForeignHostError(
                    f"without keys, this service accepts only the hosts localhost and 127.0.0.1; found {host[:80]!r}; "
                    "start it with --keys or --insecure-no-keys"
                )
        await self._app(scope, receive, send)
