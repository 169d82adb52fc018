"""Both clients in one shape, so that one test says what both do; and services that are not there."""

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
"""Makes a client: of a handler in place of the network, or of a URL, and of a client's own keywords."""


class Awaited:
    """An ``AsyncClient`` called as a ``Client``: each call runs an event loop until it is answered."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return found if not callable(found) else lambda *args, **keys: self._runner.run(found(*args, **keys))

    def __repr__(self) -> str:
        return repr(self._client)


@contextmanager
def connecting(kind: str) -> Iterator[Connect]:
    """Yield what makes clients of one kind; they are closed in the end."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def connect(to: Handler | str, url: str = URL, **keys: Any) -> Client:
            transport = None if isinstance(to, str) else httpx2.MockTransport(to)
            address = to if isinstance(to, str) else url
            if kind == "Client":
                return stack.enter_context(Client(address, transport=transport, **keys))
            client = cast("Client", Awaited(AsyncClient(address, transport=transport, **keys), runner))
            stack.callback(client.close)
            return client

        yield connect


class Service:
    """Answers each request with the next of its answers, the last one for ever; remembers what it was sent."""

    def __init__(self, *answers: httpx2.Response) -> None:
        self.answers, self.requests = list(answers), list[httpx2.Request]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return fresh(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def fresh(answer: httpx2.Response) -> httpx2.Response:
    """The same answer in an object of its own: one that a client has read is of no use to another."""
    return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)


def problem(status: int, name: str, detail: str, **headers: str) -> httpx2.Response:
    """The answer that carries a problem."""
    body = {"type": f"{PROBLEM}{name}", "title": "T", "status": status, "detail": detail, "instance": "/"}
    return httpx2.Response(status, json=body, headers={"Content-Type": "application/problem+json", **headers})
