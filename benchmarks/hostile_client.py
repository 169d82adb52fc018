"""The attacker of ``hostile.py``: many connections from a process of the lowest priority, with prepared bytes."""

import asyncio
import gc
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from hostile_index import Keys

LOST, REFUSED, HUNG_UP = "closed", "refused", "hung up"
"""What an attacker counts in place of a status: the server closed the connection, or took none; or it hung up."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED_END = b"0\r\n\r\n"
_REOPEN_SECONDS = 0.05
_LONGEST_HEAD = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack: what each of its connections does, again and again.

    Attributes:
        about: what it does, in one line.
        requests: the bytes to send, in turn; made before the attack starts.
        clients: how many connections there are.
        reads: whether they read the answers.
        hang_up: seconds after which a connection is closed; None waits for the answer, or until the server closes it.
        drip: what is sent after the request, again and again.
        pause: seconds before each drip.
        descriptors: the server's limit of open files; None leaves it.
    """

    about: str
    requests: Callable[[Keys], Sequence[bytes]]
    clients: int = 1
    reads: bool = True
    hang_up: float | None = None
    drip: bytes = b""
    pause: float = 0.0
    descriptors: int | None = None


def post(path: str, body: object, key: str, *headers: str) -> bytes:
    """Return a request with a JSON body; bytes are sent as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return (
        head("POST", path, key, "Content-Type: application/json", f"Content-Length: {len(content)}", *headers) + content
    )


def head(method: str, path: str, key: str = "", *headers: str) -> bytes:
    """Return a request without its body."""
    keys = (f"Authorization: Bearer {key}",) if key else ()
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *keys, *headers, "", "")).encode()


class Connection(asyncio.Protocol):
    """A connection for one request at a time; it counts the bytes of an answer, and keeps none."""

    def __init__(self) -> None:
        self.closed = False
        self._head, self._left = bytearray(), 0
        self._answer: asyncio.Future[str] | None = None
        self._status = LOST
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Return a connection to this machine; raise ``OSError`` if it is refused."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> "asyncio.Future[str]":
        """Send a request; return its status once the whole answer has arrived, or ``LOST``."""
        self._head, self._left = bytearray(), -1
        self._answer = asyncio.get_running_loop().create_future()
        if self.closed:
            # By the server, while this client waited for its turn.
            self._answer.set_result(LOST)
        else:
            self.transport.write(request)
        return self._answer

    async def drip(self, piece: bytes) -> None:
        """Send more bytes, once there is room for them."""
        await self._writable.wait()
        if not self.closed:
            self.transport.write(piece)

    def pause_writing(self) -> None:
        """Let drips wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let drips go on."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Read the status and the length of an answer, and count its bytes."""
        if self._answer is None or self._answer.done():
            return
        if self._left < 0:
            self._head += data[:_LONGEST_HEAD]
            before, whole, _ = self._head.partition(b"\r\n\r\n")
            if not whole:
                return
            self._status = bytes(before[9:12]).decode("latin-1")
            length = _LENGTH.search(before)
            received = len(data) - (len(before) + 4 - (len(self._head) - len(data[:_LONGEST_HEAD])))
            chunked = b"chunked" in before.lower()
            self._left = int(length[1]) - received if length else 2**62 if chunked else 0
        else:
            self._left -= len(data)
        if self._left <= 0 or (self._left > 2**61 and data.endswith(_CHUNKED_END)):
            self._answer.set_result(self._status)

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer that is waited for."""
        self.closed = True
        self._writable.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(LOST)


def run(attack: Attack, requests: Sequence[bytes], port: int, starts: float, ends: float) -> dict[str, int]:
    """Attack between two times of ``time.monotonic``; return how often each status was received."""
    os.nice(19)
    gc.freeze()
    time.sleep(max(0.0, starts - time.monotonic()))
    found: Counter[str] = Counter()
    asyncio.run(_attack(attack, requests, port, ends, found))
    return dict(found.most_common())


async def _attack(attack: Attack, requests: Sequence[bytes], port: int, ends: float, found: Counter[str]) -> None:
    # Each client starts with another request.
    turns = [
        itertools.cycle([*requests[n % len(requests) :], *requests[: n % len(requests)]]) for n in range(attack.clients)
    ]
    with suppress(TimeoutError):
        async with asyncio.timeout(ends - time.monotonic()):
            await asyncio.gather(*(_client(attack, turn, port, found) for turn in turns))


async def _client(attack: Attack, requests: Iterator[bytes], port: int, found: Counter[str]) -> None:
    connection: Connection | None = None
    for request in requests:
        try:
            if connection is None or connection.closed:
                connection = await Connection.open(port)
        except OSError:
            found[REFUSED] += 1
            await asyncio.sleep(_REOPEN_SECONDS)
            continue
        status = await _turn(attack, connection, request)
        found[status] += 1
        if status in (LOST, HUNG_UP):
            connection.transport.abort()
            connection = None
            await asyncio.sleep(_REOPEN_SECONDS if attack.hang_up is None else 0)


async def _turn(attack: Attack, connection: Connection, request: bytes) -> str:
    if not attack.reads:
        connection.transport.pause_reading()
    answer = connection.send(request)
    try:
        async with asyncio.timeout(attack.hang_up):
            while attack.drip and not answer.done():
                await asyncio.sleep(attack.pause)
                await connection.drip(attack.drip)
            return await asyncio.shield(answer)
    except TimeoutError:
        return HUNG_UP
