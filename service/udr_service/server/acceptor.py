"""The acceptor: takes new connections from the listening socket, as many as there is room for."""

import asyncio
import functools
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from udr.errors import system_error
from udr_service.server.connections import OpenConnections, Place
from udr_service.server.guest import Answer, Guest
from udr_service.server.protocol import Connection

_RETRY_SECONDS = 0.01
_LOG_SECONDS = 1.0
_HANDSHAKE_SECONDS = 1.0

_LOG = logging.getLogger(__name__)


class Acceptor:
    """Accepts connections on the event loop.

    Args:
        listener: the listening socket.
        connections: the open connections.
        make: makes the protocol of a connection; its argument says whether the connection is spare.
        tls: returns the TLS context for a new connection; None for plain HTTP.
        answers: returns what answers the first bytes of a connection at once, or None.
        keep_alive_seconds: how long a connection may wait after such an answer.

    Attributes:
        at_once: connections accepted in one turn of the event loop. Many, since a new probe waits for all before it,
            and each turn has other work, too.
    """

    at_once = 256

    def __init__(
        self,
        listener: socket.socket,
        connections: OpenConnections,
        make: Callable[[bool], Connection],
        tls: Callable[[], ssl.SSLContext | None],
        answers: Callable[[bytes], Answer | None],
        keep_alive_seconds: float,
    ) -> None:
        self._listener, self._connections, self._make, self._tls = listener, connections, make, tls
        self._answers, self._keep_alive_seconds = answers, keep_alive_seconds
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._next_line, self._closed = 0.0, False
        listener.setblocking(False)
        listener.listen(2048)
        self._listen()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> bool:
        """Accept what waits, up to a bound; return whether more may wait."""
        for _ in range(self.at_once):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                self._pause(error)
                return False
            self._take(accepted, address[0])
        return True

    def _take(self, accepted: socket.socket, address: str) -> None:
        place = self._connections.place(address, accepted.fileno())
        if place is None:
            accepted.close()
            return
        accepted.setblocking(False)
        speaks = functools.partial(self._connect, place is Place.SPARE)
        guest = Guest(accepted, self._connections, speaks, self._answer_in_clear, self._keep_alive_seconds)
        self._connections.add(guest, address)

    def _answer_in_clear(self, first: bytes) -> Answer | None:
        # What comes over TLS is not readable yet.
        return self._answers(first) if self._tls() is None else None

    def _connect(self, spare: bool, guest: Guest, accepted: socket.socket) -> None:
        connection = self._make(spare)
        self._connections.replace(guest, connection)
        connection.connecting = task = self._loop.create_task(self._connect_to(connection, accepted))
        self._connecting.add(task)
        # Not in the task itself: one that is cancelled before its first step never runs.
        task.add_done_callback(functools.partial(self._connected, connection, accepted))

    async def _connect_to(self, connection: Connection, accepted: socket.socket) -> None:
        context = self._tls()
        seconds = self._connections.limits.receive_seconds if context is not None else None
        # A client that breaks the handshake off is no news.
        with suppress(OSError, ssl.SSLError):
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=context, ssl_handshake_timeout=seconds
            )

    def _connected(self, connection: Connection, accepted: socket.socket, task: "asyncio.Task[None]") -> None:
        self._connecting.discard(task)
        connection.connecting = None
        if connection.transport is None:
            self._connections.remove(connection)
            accepted.close()

    def _pause(self, error: OSError) -> None:
        """Make room and try again soon, since the system has no more descriptors or memory; say so once a second."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LOG_SECONDS
            _LOG.warning("cannot accept connections: %s", system_error(error))
        self._connections.close_longest()
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_RETRY_SECONDS, self._listen)

    async def close(self) -> None:
        """Accept what waits, then close the listening socket.

        Closing alone would reset the connections that the system has accepted already.
        """
        while self._accept():
            await asyncio.sleep(0)
        # Nothing is awaited between the last connection and this.
        self._closed = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._connecting:
            # A TLS client that never completes the handshake must not delay the others.
            await asyncio.wait(self._connecting, timeout=_HANDSHAKE_SECONDS)
