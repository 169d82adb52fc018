"""Uvicorn's server, with connections within limits."""

import asyncio
import functools
import socket
import ssl
import time
from typing import TypeVar

import uvicorn

from udr_service.observability import Metrics
from udr_service.server.acceptor import Acceptor
from udr_service.server.connections import Limits, OpenConnections
from udr_service.server.guest import answer_to_probe
from udr_service.server.protocol import Connection
from udr_service.serving import Shares

_Acceptor = TypeVar("_Acceptor", bound=Acceptor)
_IN_FLIGHT_SECONDS, _FIRST_SECONDS, _LOOK_SECONDS = 0.2, 1.0, 0.02


class BoundedServer(uvicorn.Server):
    """Accepts connections itself, since uvicorn would accept any number, and wait for their requests for ever.

    Attributes:
        tls: what serves new connections; None for plain HTTP.
    """

    def __init__(self, config: uvicorn.Config, limits: Limits, metrics: Metrics, shares: Shares | None = None) -> None:
        super().__init__(config)
        self._connections = OpenConnections(limits, metrics, shares)
        self._acceptors: list[Acceptor] = []
        self.tls: ssl.SSLContext | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve the sockets until a signal ends it, in an event loop in which connections take turns."""
        # uvloop accepts one connection per turn of the loop: with long turns, the last client waits half a minute.
        loop = functools.partial(asyncio.SelectorEventLoop, self._connections.selector)
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(self.serve(sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and accept connections from the sockets."""
        await super().startup([])
        self._acceptors = [self._acceptor(each) for each in sockets or []]

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        return self._accepting(Acceptor, listener)

    def _accepting(self, kind: type[_Acceptor], listener: socket.socket) -> _Acceptor:
        answers = functools.partial(answer_to_probe, state=self.server_state)
        keep_alive = self.config.timeout_keep_alive
        return kind(listener, self._connections, self._connection, lambda: self.tls, answers, keep_alive)

    def _connection(self, spare: bool) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state, self._connections, spare=spare)

    async def on_tick(self, counter: int) -> bool:
        """Time out what has waited too long, ten times a second; return whether to stop."""
        self._connections.expire()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept pending connections, stop listening, read the requests on their way, then shut uvicorn down.

        Uvicorn alone would reset pending connections, and close those whose first request it has not read.
        """
        for acceptor in self._acceptors:
            await acceptor.close()
        await asyncio.sleep(_IN_FLIGHT_SECONDS)
        # The first request of a new connection may take longer to be read.
        last = time.monotonic() + _FIRST_SECONDS
        while self._connections.untried() and time.monotonic() < last:
            await asyncio.sleep(_LOOK_SECONDS)
        self._connections.close_silent()
        await super().shutdown()
