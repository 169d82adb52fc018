"""The acceptor: takes new connections from the listening socket, as many as there is room for."""

import asyncio
import ctypes
import functools
import logging
import socket
import ssl
import struct
import sys
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
_ON_THEIR_WAY_SECONDS = 0.1
"""How long the system's own handshakes with clients may take once no new one begins."""

_SO_ATTACH_FILTER = 26
_DROP_NEW = (
    # The flags of the TCP header, of which SYN and ACK count: SYN alone asks for a new connection.
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)
"""A program of Linux's packet filter: drops what asks for a new connection, and lets all else pass."""

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
        alone: no other process goes on accepting from the socket.
    """

    at_once = 256
    alone = True

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
        """Have the system begin no new connections, accept those that it has begun, then close the listening socket.

        Closing alone would reset them: those that wait, and those that come between the last look and the close.
        """
        if self.alone and _drop_new(self._listener):
            await asyncio.sleep(_ON_THEIR_WAY_SECONDS)
        while self._accept():
            await asyncio.sleep(0)
        # Nothing is awaited between the last connection and this.
        self._closed = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._connecting:
            # A TLS client that never completes the handshake must not delay the others.
            await asyncio.wait(self._connecting, timeout=_HANDSHAKE_SECONDS)


def _drop_new(listener: socket.socket) -> bool:
    """Drop what asks for a new connection; return whether the system can do that. Such a client asks again later."""
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _DROP_NEW))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_DROP_NEW), ctypes.addressof(program))
        )
    except OSError as error:
        # A sandbox may not allow it.
        _LOG.debug("no packet filter: %s", system_error(error))
        return False
    return True
