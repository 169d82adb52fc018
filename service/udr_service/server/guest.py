"""A guest: an accepted connection that has sent nothing yet, and costs little more than its descriptor."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from udr_service.server.connections import OpenConnections

_PROBES = (b"GET /livez ", b"GET /readyz ")


class Guest:
    """Waits for the first byte of a client, without the objects of a connection: a crowd of silent ones is cheap.

    Args:
        accepted: the accepted socket, which does not block.
        connections: the open connections, this one included until it speaks or leaves.
        speaks: takes the socket over at the first byte. One of a crowd waits for its turn; a probe goes first.
    """

    untried, unsent = True, 0

    def __init__(
        self, accepted: socket.socket, connections: OpenConnections, speaks: Callable[[socket.socket], None]
    ) -> None:
        self._socket, self._connections, self._speaks = accepted, connections, speaks
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(accepted.fileno(), self._ready)

    def _ready(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        first = b""
        with suppress(OSError):
            first = self._socket.recv(max(map(len, _PROBES)), socket.MSG_PEEK)
        if first:
            self._connections.starts.add(self._hand_over, first=first.startswith(_PROBES))
        else:
            self.abort()

    def _hand_over(self) -> None:
        # It may have been closed while it waited for its turn.
        if self._socket.fileno() >= 0:
            self._connections.remove(self)
            self._speaks(self._socket)

    def time_out(self) -> None:
        """Close, since the client has sent nothing for too long."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._connections.remove(self)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
