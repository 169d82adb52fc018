"""Both clients behind one interface, so that one test covers both, and stand-ins for a service."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import httpx2

from udr.client import PROBLEM, AsyncClient, Client

URL = "http://service:8000"
KINDS = ("Client", "AsyncClient")

Handler = Callable[[httpx2.Request], httpx2.Response]
Connect = Callable[..., Client]
"""Makes a client from a handler in place of the network, or from a URL, and the client's own keywords."""


class Awaited:
    """An ``AsyncClient`` with the interface of ``Client``: each call runs an event loop until it returns."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    @property
    def tasks(self) -> Any:
        return self._runner.run(self._client.tasks())

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        return (
            attribute if not callable(attribute) else lambda *args, **keys: self._runner.run(attribute(*args, **keys))
        )

    def __repr__(self) -> str:
        return repr(self._client)


@contextmanager
def connecting(kind: str) -> Iterator[Connect]:
    """Yield a factory of clients of one kind, and close them at the end."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def connect(to: Handler | str, url: str = URL, **keys: Any) -> Client:
            if isinstance(to, str):
                url = to
            else:
                keys["transport"] = httpx2.MockTransport(to)
            if kind == "Client":
                return stack.enter_context(Client(url, **keys))
            client = cast("Client", Awaited(AsyncClient(url, **keys), runner))
            stack.callback(client.close)
            return client

        yield connect


class Service:
    """Returns its responses in order, then repeats the last one; records the requests."""

    def __init__(self, *responses: httpx2.Response) -> None:
        self.responses, self.requests = list(responses), list[httpx2.Request]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return fresh(self.responses.pop(0) if len(self.responses) > 1 else self.responses[0])


def fresh(response: httpx2.Response) -> httpx2.Response:
    """A copy of a response: once a client has read one, no other can."""
    return httpx2.Response(response.status_code, content=response.content, headers=response.headers)


def problem(status: int, name: str, detail: str, **headers: str) -> httpx2.Response:
    """A response with a problem."""
    body = {"type": f"{PROBLEM}{name}", "title": "T", "status": status, "detail": detail, "instance": "/"}
    return httpx2.Response(status, json=body, headers={"Content-Type": "application/problem+json", **headers})
