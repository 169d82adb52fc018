"""Admission: what is known about a request before its body is read decides whether to read it."""

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from udr_service.auth import Scope as KeyScope
from udr_service.auth import needed
from udr_service.serving import Clients, record_of


class Queue(Protocol):
    """What requests wait in."""

    def refuse_if_full(self) -> None:
        """Raise an ``OverloadedError`` if it has no room."""


class Admission:
    """Admits requests: within what their client may take, and while the queue has room."""

    def __init__(self, app: ASGIApp, clients: Clients, queue: Queue) -> None:
        self._app, self._clients, self._queue = app, clients, queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or needed(scope["path"]) is not KeyScope.READ:
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        address = (scope.get("client") or ("",))[0]
        record.client = self._clients.of_key(record.entry) if record.entry else self._clients.of_address(address)
        with record.client.request():
            if scope["method"] == "POST":
                self._queue.refuse_if_full()
            await self._app(scope, receive, send)
