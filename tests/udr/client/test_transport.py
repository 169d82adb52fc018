"""Retries and their pauses, timeouts, API keys and connections."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients import URL, Connect, Service, fresh, problem
from udr.client import KEY, AsyncClient, retry_after_seconds
from udr.errors import ConfigError, DeadlineError, OverloadedError, ServiceError

TASKS = httpx2.Response(200, json={"tasks": []})
SECRET = "s3cr3t-k3y"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


def full(status: int, **headers: str) -> httpx2.Response:
    return problem(status, "overloaded", "full", **headers)


@pytest.mark.parametrize("status", [429, 503])
def test_retries_pause_as_long_as_the_service_says(connect: Connect, status: int, pauses: list[float]) -> None:
    seconds = full(status, **{"Retry-After": "3"})
    date = full(status, **{"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)})
    assert connect(Service(seconds, date, TASKS), retries=2).tasks == {}
    assert pauses[0] == 3 and 5 < pauses[1] <= 8


def test_a_service_that_stays_full_is_an_overloaded_error(connect: Connect, pauses: list[float]) -> None:
    service = Service(full(429))
    with pytest.raises(OverloadedError, match=r"full \(HTTP 429\)"):
        _ = connect(service, retries=2).tasks
    assert len(service.requests) == 3 and pauses == [0.5, 1.0]


@pytest.mark.parametrize(
    ("status", "pause"), [(503, "3600"), *((status, "1") for status in (400, 401, 403, 404, 413, 422, 500, 502, 504))]
)
def test_other_statuses_and_pauses_above_the_timeout_are_not_retried(
    connect: Connect, status: int, pause: str, pauses: list[float]
) -> None:
    service = Service(problem(status, "x", "no", **{"Retry-After": pause}))
    with pytest.raises(ServiceError):
        _ = connect(service, timeout=5).tasks
    assert len(service.requests) == 1 and not pauses


@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_a_proxy_says_of_a_lost_service_is_retried(connect: Connect, status: int, pauses: list[float]) -> None:
    assert connect(Service(httpx2.Response(status, text="Internal Server Error"), TASKS)).tasks == {}
    assert pauses == [0.5]


def failing(*kinds: type[httpx2.RequestError], message: str = "") -> Callable[[httpx2.Request], httpx2.Response]:
    """A network that raises these errors, one per request, and then answers."""
    left = list(kinds)

    def handle(request: httpx2.Request) -> httpx2.Response:
        if left:
            raise left.pop(0)(message, request=request)
        return fresh(TASKS)

    return handle


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (httpx2.ConnectError, ServiceError, r"cannot be reached \(refused\); start the service, or check the URL"),
        (httpx2.ReadTimeout, DeadlineError, "no answer within 3 seconds"),
    ],
)
def test_an_unreachable_or_silent_service_is_an_error_without_retry(
    connect: Connect, pauses: list[float], failure: type[httpx2.RequestError], kind: type[ServiceError], message: str
) -> None:
    with pytest.raises(kind, match=f"^{URL}: {message}$") as raised:
        _ = connect(failing(failure, message="refused"), timeout=3).tasks
    assert raised.value.status is None
    assert connect(failing(failure)).ready() is False and not pauses


@pytest.mark.parametrize("kind", [httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError])
def test_a_broken_connection_is_retried(connect: Connect, kind: type[httpx2.RequestError], pauses: list[float]) -> None:
    assert connect(failing(kind, kind), retries=2).tasks == {}
    assert pauses == [0.5, 1.0]
    with pytest.raises(ServiceError, match=rf"cannot be reached \({kind.__name__}\)"):
        _ = connect(failing(kind, kind), retries=1).tasks


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *((header, None) for header in (None, "", "soon", "-1", "1.5", "nan")),
        *(("0", 0.0), ("120", 120.0)),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        ("Thu, 01 Jan 2026 13:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 99999999999999999999 11:00:00 GMT", None),
    ],
)
def test_retry_after_is_whole_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@settings(max_examples=30)
@given(st.text() | st.from_regex(r"(\w{3}, )?\d+ (Jan|Foo) -?\d+ \d+:\d+(:\d+)? ?([+-]\d+|GMT|\w)?", fullmatch=True))
def test_no_retry_after_header_breaks_the_client(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("argument", "variable", "sent"),
    [
        (None, None, None),
        (SECRET, None, f"Bearer {SECRET}"),
        (None, "other", "Bearer other"),
        (SECRET, "other", f"Bearer {SECRET}"),
        ("", "other", None),
        (None, "", None),
    ],
)
def test_the_key_comes_from_the_argument_or_else_from_the_environment(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, argument: str | None, variable: str | None, sent: str | None
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    if variable is not None:
        monkeypatch.setenv(KEY, variable)
    service = Service(TASKS)
    _ = connect(service, api_key=argument).tasks
    assert service.requests[0].headers.get("Authorization") == sent


@pytest.mark.parametrize("end", ["\n", "\r", " ", "\x00", "é", "\t", "\x7f"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with pytest.raises(ConfigError, match="the API key must be ASCII without spaces") as raised:
        connect(URL, api_key=SECRET + end)
    assert SECRET not in str(raised.value)
    if end != "\x00":
        monkeypatch.setenv(KEY, SECRET + end)
        with pytest.raises(ConfigError, match="the API key must be ASCII"):
            connect(URL)


def test_a_key_is_in_no_repr_and_in_no_error(connect: Connect, pauses: list[float]) -> None:
    client = connect(Service(TASKS), api_key=SECRET)
    assert repr(client) in (f"Client({URL!r})", f"AsyncClient({URL!r})")
    for handler in (
        *(Service(problem(status, "x", "no")) for status in (401, 403, 404, 422, 429, 500, 503, 504)),
        *(Service(httpx2.Response(200, content=content)) for content in (b"", b"[]", b"{}")),
        *(failing(kind) for kind in (httpx2.ConnectError, httpx2.ReadTimeout)),
    ):
        with pytest.raises(ServiceError) as raised:
            _ = connect(handler, api_key=SECRET).tasks
        error: BaseException | None = raised.value
        while error is not None:
            assert SECRET not in f"{error!s} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__


class Server(ThreadingHTTPServer):
    """A real server that counts its connections.

    Attributes:
        hang_ups: how many of the next requests it answers by closing the connection.
        seconds: how long it takes to answer.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections, self.hang_ups, self.seconds = 0, 0, 0.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that stopped waiting."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        if self.server.hang_ups:
            self.server.hang_ups -= 1
            self.close_connection = True
            return
        # Tests patch time.sleep.
        threading.Event().wait(self.server.seconds)
        self.send_response(200)
        self.send_header("Content-Length", str(len(TASKS.content)))
        self.end_headers()
        self.wfile.write(TASKS.content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.001})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_connection_is_kept_until_the_server_closes_it(connect: Connect, server: Server, pauses: list[float]) -> None:
    client = connect(server.url)
    assert [client.tasks for _ in range(3)] == [{}] * 3
    assert server.connections == 1
    server.hang_ups = 1
    assert client.tasks == {}
    assert server.connections == 2 and pauses == [0.5]


def test_a_slow_server_is_a_deadline_error(connect: Connect, server: Server) -> None:
    server.seconds = 0.1
    with pytest.raises(DeadlineError, match=r"no answer within 0\.02 seconds"):
        _ = connect(server.url, timeout=0.02).tasks


def bursts(url: str, *sizes: int, **keys: Any) -> None:
    """Make this many calls at once, one burst after the other."""

    async def call() -> None:
        async with AsyncClient(url, **keys) as client:
            for size in sizes:
                assert await asyncio.gather(*(client.tasks() for _ in range(size))) == [{}] * size

    asyncio.run(call())


@pytest.mark.parametrize(("sizes", "seconds", "most"), [((130,), 0.0, 100), ((20, 20, 20), 0.02, 20)])
def test_bursts_share_at_most_100_connections_and_reuse_them(
    server: Server, sizes: tuple[int, ...], seconds: float, most: int
) -> None:
    server.seconds = seconds
    bursts(server.url, *sizes)
    assert server.connections <= most


def test_waiting_for_a_connection_does_not_count_towards_the_timeout(server: Server) -> None:
    server.seconds = 0.3
    one = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=1))
    bursts(server.url, 6, timeout=1.5, transport=one)
    assert server.connections == 1


def test_a_pause_blocks_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(full(429, **{"Retry-After": "1"}), TASKS)

    async def both() -> None:
        other_has_answered = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await other_has_answered.wait()

        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with AsyncClient(URL, transport=httpx2.MockTransport(service)) as client:
            paused = asyncio.create_task(client.tasks())
            while not service.requests:
                await asyncio.wait([paused], timeout=0.001)
            assert await client.tasks() == {} and not paused.done()
            other_has_answered.set()
            assert await paused == {}

    asyncio.run(asyncio.wait_for(both(), 10))
    assert len(service.requests) == 3


def test_a_cancelled_call_leaves_the_client_usable(server: Server) -> None:
    async def cancel() -> None:
        server.seconds = 0.1
        async with AsyncClient(server.url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.tasks(), 0.02)
            server.seconds = 0.0
            assert await client.tasks() == {}

    asyncio.run(cancel())


def test_a_client_leaves_nothing_open_in_an_event_loop_that_has_ended(server: Server) -> None:
    class Counting(httpx2.AsyncHTTPTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1
            await super().aclose()

    transport, loops = Counting(), list[weakref.ref[asyncio.AbstractEventLoop]]()
    client = AsyncClient(server.url, transport=transport)

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await client.tasks() == {}

    for runs in (1, 2, 3):
        asyncio.run(ask())
        # Else the socket would stay open.
        assert transport.closed == runs == server.connections
    gc.collect()
    assert [loop() is None for loop in loops] == [True, True, False]
