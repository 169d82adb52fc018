"""The load for ``service.py``: clients with little overhead, in their own process.

A client has one connection, and sends its next request when the last one is answered. With a rate, requests are due at
that rate instead, and a free client takes the next one.
"""

import asyncio
import itertools
import json
import multiprocessing
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

from service_made_up import HUNDRED, Words, request_of

LOST = 0
"""The status of a request whose connection broke before the whole answer arrived."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """The requests to send.

    Attributes:
        port: on this machine.
        numbers: the requests, of which ``request`` makes the bodies.
        clients: how many send at the same time.
        rate: requests a second; None sends as fast as answers arrive.
        words: in each request.
        keep: keep the bodies of the answers.
        request: makes the body of a number's request; a function of a module, since another process calls it.
    """

    port: int
    numbers: range
    clients: int
    rate: float | None = None
    words: Words = HUNDRED
    keep: bool = False
    request: Callable[[int, Words], Mapping[str, object]] = request_of


class Answer(NamedTuple):
    """The answer to a request, with the seconds from sending to the whole answer, and the body if kept."""

    number: int
    status: int
    seconds: float
    body: bytes

    def read(self) -> Mapping[str, Any]:
        """Return the body as JSON."""
        body: Mapping[str, Any] = json.loads(self.body)
        return body


class Sent(NamedTuple):
    """The result of a load: the answers by number, and the total seconds."""

    answers: list[Answer]
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.answers) / self.seconds

    @property
    def p50_ms(self) -> float:
        """The median latency in milliseconds."""
        return 1000 * statistics.median(answer.seconds for answer in self.answers)

    def statuses(self) -> dict[str, int]:
        """Return the number of answers by status."""
        counts = Counter(answer.status for answer in self.answers)
        return {str(status): count for status, count in sorted(counts.items())}

    def all_ok(self) -> Self:
        """Return itself if every status is 200."""
        if (statuses := self.statuses()).keys() != {"200"}:
            raise RuntimeError(f"every answer should be 200; found {statuses}")
        return self


class Clients:
    """The process that sends requests."""

    def __init__(self) -> None:
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def begin(self, load: Load) -> "Future[Sent]":
        """Start sending."""
        return self._process.submit(_run, load)

    def send(self, load: Load) -> Sent:
        """Send, and return when everything is answered."""
        return self.begin(load).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.shutdown()


def _run(load: Load) -> Sent:
    return asyncio.run(_send(load))


async def _send(load: Load) -> Sent:
    requests = iter([(number, _request(load.request(number, load.words))) for number in load.numbers])
    answers: list[Answer] = []
    started = time.perf_counter()
    due = _due(started, load.rate)
    await asyncio.gather(*(_client(load, requests, due, answers) for _ in range(load.clients)))
    return Sent(sorted(answers), time.perf_counter() - started)


def _due(started: float, rate: float | None) -> Iterator[float]:
    """Return the times at which requests are due, by ``time.perf_counter``."""
    return (started + number / rate if rate else started for number in itertools.count())


async def _client(
    load: Load, requests: Iterator[tuple[int, bytes]], due: Iterator[float], answers: list[Answer]
) -> None:
    connection: _Connection | None = None
    for number, request in requests:
        early = next(due) - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        if connection is None or connection.closed:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", load.port)
        began = time.perf_counter()
        status, body = await connection.send(request)
        answers.append(Answer(number, status, time.perf_counter() - began, body if load.keep else b""))


def _request(body: Mapping[str, object]) -> bytes:
    content = json.dumps(body).encode()
    headers = ("Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(content)}")
    return "\r\n".join(("POST /v1/retrieve HTTP/1.1", *headers, "", "")).encode() + content


class _Connection(asyncio.Protocol):
    """A connection for one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return the status and body of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, whole, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if whole and length and len(body) >= int(length[1]) and self._answer is not None:
            self._received = b""
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((LOST, b""))
