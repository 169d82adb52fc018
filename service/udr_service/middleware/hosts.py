"""The host names that a service without keys answers to."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from udr_service.auth import is_own_name
from udr_service.errors import ForeignHostError


class TrustedHosts:
    """Lets through what was sent to a name that only this machine has for itself; for a service without keys.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not is_own_name(host):
                raise ForeignHostError(
                    f"without keys this service answers to localhost and 127.0.0.1 only, and was asked as "
                    f"{host[:80]!r}; give it keys, or start it with --insecure-no-keys"
                )
        await self._app(scope, receive, send)
