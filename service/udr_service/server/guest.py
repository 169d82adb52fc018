"""A connection that has not spoken, or only asked whether the service is alive: it has no objects of uvicorn's."""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from uvicorn.server import ServerState

from udr_service.server.connections import OpenConnections

ALIVE_PATH, ALIVE = b"/livez", b'{"status":"alive"}'
ALIVE_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ALIVE)).encode())]
"""What the probe asks that wants to know whether the event loop turns, and the answer."""

PROBES = (ALIVE_PATH, b"/readyz")
"""The paths that find room when nothing else does."""

_FIRST = tuple(b"GET " + path + b" " for path in PROBES)
_PEEKED = 1024
_QUESTION = re.compile(rb"GET " + ALIVE_PATH + rb" HTTP/1\.1\r\n(?:[\w-]+:[\t -~]*\r\n)+\r\n")
_NAME = re.compile(rb"\n([\w-]+):[\t ]*([\t -~]*)")
_ELSEWHERE = {b"content-length", b"transfer-encoding", b"upgrade", b"expect"}


class Answer(NamedTuple):
    """The bytes of an answer, and whether the connection stays open."""

    content: bytes
    kept: bool


def answer_to_probe(head: bytes, state: ServerState) -> Answer | None:
    """Return the answer to ``GET /livez`` if these bytes are that, whole and plain; None if uvicorn must parse them."""
    if not _QUESTION.fullmatch(head):
        return None
    fields = [(name.lower(), value.strip().lower()) for name, value in _NAME.findall(head)]
    names = [name for name, _ in fields]
    connection = [value for name, value in fields if name == b"connection"]
    if (
        names.count(b"host") != 1
        or _ELSEWHERE.intersection(names)
        or connection not in ([], [b"close"], [b"keep-alive"])
    ):
        return None
    kept = connection != [b"close"]
    headers = [*state.default_headers, *ALIVE_HEADERS, *([] if kept else [(b"connection", b"close")])]
    lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in headers), b"", ALIVE]
    return Answer(b"\r\n".join(lines), kept)


class Guest:
    """Waits for the first byte of a client: a crowd of silent ones is cheap.

    It answers the question whether the service is alive itself: the objects of a connection take several turns of the
    event loop, which are long while a crowd calls.

    Args:
        accepted: the accepted socket, which does not block.
        connections: the open connections, this one included until it speaks or leaves.
        speaks: takes its place and the socket at the first byte. One of a crowd waits for its turn; a probe goes first.
        answers: returns what answers the first bytes, or None.
        keep_alive_seconds: how long it may wait after an answer.
    """

    unsent, silent = 0, True

    def __init__(
        self,
        accepted: socket.socket,
        connections: OpenConnections,
        speaks: "Callable[[Guest, socket.socket], None]",
        answers: Callable[[bytes], Answer | None],
        keep_alive_seconds: float,
    ) -> None:
        self._socket, self._connections, self._speaks, self._answers = accepted, connections, speaks, answers
        self._keep_alive_seconds = keep_alive_seconds
        self.untried = True
        self._closing: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(accepted.fileno(), self._ready)

    def _ready(self) -> None:
        first = b""
        with suppress(OSError):
            first = self._socket.recv(_PEEKED, socket.MSG_PEEK)
        if not first:
            self.abort()
        elif not first.startswith(_FIRST):
            self._leave(first=False)
        elif (answer := self._answers(first)) is None:
            self._leave(first=True)
        else:
            self._answer(first, answer)

    def _answer(self, question: bytes, answer: Answer) -> None:
        sent = 0
        with suppress(OSError):
            self._socket.recv(len(question))
            sent = self._socket.send(answer.content)
        # There is room for it, unless the client never reads.
        if sent < len(answer.content) or not answer.kept:
            self.abort()
        else:
            self._wait_no_more()
            self.untried = False
            self._connections.wait(self)

    def _leave(self, *, first: bool) -> None:
        self._wait_no_more()
        self._loop.remove_reader(self._socket.fileno())
        self._connections.starts.add(self._hand_over, first=first)

    def _hand_over(self) -> None:
        # It may have been closed while it waited for its turn.
        if self._socket.fileno() >= 0:
            self._speaks(self, self._socket)

    def _wait_no_more(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def time_out(self) -> None:
        """Close, since the client has sent nothing for too long; after an answer it may wait for longer."""
        if self.untried:
            self.abort()
        else:
            self._connections.idle(self)
            self._closing = self._loop.call_later(self._keep_alive_seconds, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._wait_no_more()
        self._connections.remove(self)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
