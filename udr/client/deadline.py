"""Deadlines of whole calls, and bounds of answers: httpx2's timeouts are those of single reads and writes.

They follow a request by httpx2's extension ``trace``, whose first event is that the request has a connection.
"""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import httpx2

MOST_BYTES = 256 * 1024 * 1024
"""The largest answer that is read."""

_UNTIL: ContextVar[float] = ContextVar("until")
# A peer can take a write as slowly as it likes; this much fits into the system's buffers.
_PART_BYTES = 16 * 1024


class Deadline:
    """The end of a call, its retries included; waiting for one of the client's own connections does not count."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._waiting_since: float | None = None

    @property
    def left(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self._until - time.monotonic())

    @property
    def timeout(self) -> httpx2.Timeout:
        """The longest single read or write."""
        return httpx2.Timeout(self.left, pool=None)

    def wait(self) -> None:
        """Stop the clock until the next request has a connection."""
        self._waiting_since = time.monotonic()

    def go_on(self) -> bool:
        """Let the clock run again; return whether it was stopped."""
        if self._waiting_since is None:
            return False
        self._until += time.monotonic() - self._waiting_since
        self._waiting_since = None
        return True

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow a request, and bound the reads and writes of a new connection."""
        if self.go_on():
            _UNTIL.set(self._until)
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            _bound(info["return_value"])


class TooLargeError(httpx2.RequestError):
    """An answer exceeds ``MOST_BYTES``."""


def fetch(http: httpx2.Client, request: Mapping[str, Any], deadline: Deadline) -> httpx2.Response:
    """Return the whole response to a request; raise what httpx2 raises, its timeouts at the deadline."""
    deadline.wait()
    body = bytearray()
    with http.stream(**request, timeout=deadline.timeout, extensions={"trace": deadline.trace}) as response:
        for part in response.iter_bytes():
            _add(body, part)
    return _whole(response, body)


async def fetch_async(http: httpx2.AsyncClient, request: Mapping[str, Any], deadline: Deadline) -> httpx2.Response:
    """Do what ``fetch`` does, for an event loop."""
    deadline.wait()
    body, loop = bytearray(), asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:

            async def trace(event: str, info: object) -> None:
                if deadline.go_on():
                    limit.reschedule(loop.time() + deadline.left)

            async with http.stream(**request, timeout=deadline.timeout, extensions={"trace": trace}) as response:
                async for part in response.aiter_bytes():
                    _add(body, part)
    except TimeoutError as error:
        raise httpx2.ReadTimeout("the deadline has passed") from error
    return _whole(response, body)


def _bound(stream: Any) -> None:  # noqa: ANN401
    """Bound each read and write of a connection by what is left to the call of this thread.

    The connection serves many calls, each with its own deadline.
    """
    read, write = stream.read, stream.write

    def left() -> float:
        seconds = _UNTIL.get() - time.monotonic()
        if seconds <= 0:
            raise httpx2.ReadTimeout("the deadline has passed")
        return seconds

    def read_part(max_bytes: int, timeout: float | None = None) -> bytes:
        part: bytes = read(max_bytes, left())
        return part

    def write_parts(buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PART_BYTES):
            write(buffer[start : start + _PART_BYTES], left())

    stream.read, stream.write = read_part, write_parts


def _add(body: bytearray, part: bytes) -> None:
    body += part
    if len(body) > MOST_BYTES:
        raise TooLargeError(f"the answer has more than {MOST_BYTES // 2**20} MiB; ask for less at once")


def _whole(response: httpx2.Response, body: bytearray) -> httpx2.Response:
    # The body is decoded, and has another length.
    skipped = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in skipped]
    return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)
