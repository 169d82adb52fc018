"""When the clients ask again, how long they wait, whose key they send, and how they keep their connections."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clients import KINDS, URL, Connect, Service, connecting, fresh, problem
from udr.client import KEY, AsyncClient, asked_pause
from udr.errors import AccessError, ConfigError, DeadlineError, OverloadedError, ServiceError

TASKS = httpx2.Response(200, json={"tasks": []})
SECRET = "s3cr3t-k3y"


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with connecting(request.param) as connect:
        yield connect


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_service_is_asked_again_when_it_says(connect: Connect, status: int, pauses: list[float]) -> None:
    full = problem(status, "overloaded", "full", **{"Retry-After": "3"})
    assert connect(Service(full, full, TASKS), retries=2).tasks() == {}
    assert pauses == [3.0, 3.0]


def test_a_full_service_may_name_a_date(connect: Connect, pauses: list[float]) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    assert connect(Service(problem(503, "not-ready", "loading", **{"Retry-After": when}), TASKS)).tasks() == {}
    assert len(pauses) == 1 and 5 < pauses[0] <= 8


def test_retries_end_in_an_overloaded_error(connect: Connect, pauses: list[float]) -> None:
    service = Service(problem(429, "overloaded", "full"))
    with pytest.raises(OverloadedError, match=r"full \(HTTP 429\)"):
        connect(service, retries=2).tasks()
    assert len(service.requests) == 3
    assert pauses == [0.5, 1.0]


def test_no_pause_is_longer_than_the_timeout(connect: Connect, pauses: list[float]) -> None:
    service = Service(problem(503, "not-ready", "loading", **{"Retry-After": "3600"}))
    with pytest.raises(OverloadedError):
        connect(service, timeout=5).tasks()
    assert len(service.requests) == 1 and not pauses


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 502, 504])
def test_nothing_else_is_asked_again(connect: Connect, status: int, pauses: list[float]) -> None:
    service = Service(problem(status, "x", "no", **{"Retry-After": "1"}))
    with pytest.raises(ServiceError):
        connect(service).tasks()
    assert len(service.requests) == 1 and not pauses


def test_a_batch_that_was_refused_as_a_whole_is_sent_again(connect: Connect, pauses: list[float]) -> None:
    from tests.udr.client.test_client import RETRIEVAL, asked, batch

    service = Service(problem(429, "overloaded", "full", **{"Retry-After": "1"}), batch(RETRIEVAL))
    assert connect(service).retrieve_batch(asked(1)) == [RETRIEVAL]
    assert pauses == [1.0]


def failing(*errors: Callable[[httpx2.Request], Exception]) -> Callable[[httpx2.Request], httpx2.Response]:
    """A network that fails in these ways, one a request, and then answers."""
    left = list(errors)

    def fail(request: httpx2.Request) -> httpx2.Response:
        if left:
            raise left.pop(0)(request)
        return fresh(TASKS)

    return fail


def refused(request: httpx2.Request) -> Exception:
    return httpx2.ConnectError("Connection refused", request=request)


def silent(request: httpx2.Request) -> Exception:
    return httpx2.ReadTimeout("", request=request)


def test_an_unreachable_service_is_named(connect: Connect, pauses: list[float]) -> None:
    with pytest.raises(ServiceError, match=rf"^{URL}: cannot be reached \(Connection refused\)"):
        connect(failing(refused)).tasks()
    assert connect(failing(refused)).ready() is False
    assert not pauses


def test_a_silent_service_is_named_with_the_timeout(connect: Connect, pauses: list[float]) -> None:
    with pytest.raises(DeadlineError, match=rf"^{URL}: no answer within 3 seconds$") as raised:
        connect(failing(silent), timeout=3).tasks()
    assert raised.value.status is None and not pauses


@pytest.mark.parametrize("kind", [httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError])
def test_a_connection_that_broke_is_tried_again(
    connect: Connect, kind: type[httpx2.RequestError], pauses: list[float]
) -> None:
    def broken(request: httpx2.Request) -> Exception:
        return kind("", request=request)

    assert connect(failing(broken, broken), retries=2).tasks() == {}
    assert pauses == [0.5, 1.0]
    with pytest.raises(ServiceError, match=rf"cannot be reached \({kind.__name__}\)"):
        connect(failing(broken, broken), retries=1).tasks()


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("0", 0.0),
        ("120", 120.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
        ("Thu, 01 Jan 2026 13:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 99999999999999999999 11:00:00 GMT", None),
    ],
)
def test_retry_after_is_whole_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert asked_pause(header, NOW) == seconds


@given(st.text() | st.from_regex(r"(\w{3}, )?\d+ (Jan|Foo) -?\d+ \d+:\d+(:\d+)? ?([+-]\d+|GMT|\w)?", fullmatch=True))
def test_no_retry_after_breaks_the_client(header: str) -> None:
    seconds = asked_pause(header, NOW)
    assert seconds is None or seconds >= 0


def sent_key(connect: Connect, **keys: Any) -> str | None:
    service = Service(TASKS)
    connect(service, **keys).tasks()
    return service.requests[0].headers.get("Authorization")


def test_a_key_is_sent_with_every_request_and_the_argument_goes_before_the_environment(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert sent_key(connect) is None
    assert sent_key(connect, api_key=SECRET) == f"Bearer {SECRET}"
    monkeypatch.setenv(KEY, "other")
    assert sent_key(connect) == "Bearer other"
    assert sent_key(connect, api_key=SECRET) == f"Bearer {SECRET}"
    assert sent_key(connect, api_key="") is None, "an empty key says: none, whatever the environment has"
    monkeypatch.setenv(KEY, "")
    assert sent_key(connect) is None


@pytest.mark.parametrize("end", ["\n", "\r", " ", "\x00", "é", "\t", "\x7f"])
def test_a_key_that_a_header_cannot_hold_is_refused_and_not_shown(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with pytest.raises(ConfigError, match="the API key must be ASCII without spaces") as raised:
        connect(Service(TASKS), api_key=SECRET + end)
    assert SECRET not in str(raised.value)
    if end != "\x00":
        monkeypatch.setenv(KEY, SECRET + end)
        with pytest.raises(ConfigError, match="the API key must be ASCII"):
            connect(Service(TASKS))


def test_a_key_is_in_no_repr_and_in_no_error(connect: Connect, pauses: list[float]) -> None:
    client = connect(Service(TASKS), api_key=SECRET)
    assert repr(client) in (f"Client({URL!r})", f"AsyncClient({URL!r})")
    for handler in (
        *(Service(problem(status, "x", "no")) for status in (401, 403, 404, 422, 429, 500, 503, 504)),
        *(Service(httpx2.Response(200, content=content)) for content in (b"", b"[]", b"{}")),
        *(failing(*[error] * 3) for error in (refused, silent)),
    ):
        with pytest.raises(ServiceError) as raised:
            connect(handler, api_key=SECRET).tasks()
        error: BaseException | None = raised.value
        while error is not None:
            assert SECRET not in f"{error!s} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__


def test_a_missing_key_says_where_to_put_it(connect: Connect) -> None:
    with pytest.raises(AccessError, match=r"no key \(HTTP 401\); give the client an api_key, or set UDR_API_KEY$"):
        connect(Service(problem(401, "unauthorized", "no key"))).tasks()


class Server(ThreadingHTTPServer):
    """A real server; counts connections, and hangs up without an answer as often as it is told to."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections, self.hang_ups, self.seconds = 0, 0, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.served.connections += 1
        super().setup()

    @property
    def served(self) -> Server:
        assert isinstance(self.server, Server)
        return self.server

    def do_GET(self) -> None:
        if self.served.hang_ups:
            self.served.hang_ups -= 1
            self.close_connection = True
            return
        # Not by time.sleep, which tests replace.
        threading.Event().wait(self.served.seconds)
        self.send_response(200)
        self.send_header("Content-Length", str(len(TASKS.content)))
        self.end_headers()
        self.wfile.write(TASKS.content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_one_connection_serves_many_requests(connect: Connect, server: Server) -> None:
    client = connect(server.url)
    assert [client.tasks() for _ in range(5)] == [{}] * 5
    assert server.connections == 1


def test_a_server_that_hung_up_is_asked_again_on_a_new_connection(
    connect: Connect, server: Server, pauses: list[float]
) -> None:
    client = connect(server.url)
    client.tasks()
    server.hang_ups = 1
    assert client.tasks() == {}
    assert server.connections == 2 and pauses == [0.5]


def test_a_server_that_is_too_slow_is_left_after_the_timeout(connect: Connect, server: Server) -> None:
    server.seconds = 0.5
    with pytest.raises(DeadlineError, match=r"no answer within 0\.1 seconds"):
        connect(server.url, timeout=0.1).tasks()


def bursts(url: str, *sizes: int, **keys: Any) -> None:
    """Make so many calls at once, and then so many."""

    async def ask() -> None:
        async with AsyncClient(url, **keys) as client:
            for size in sizes:
                assert await asyncio.gather(*(client.tasks() for _ in range(size))) == [{}] * size

    asyncio.run(ask())


def test_more_calls_at_once_than_connections_wait_for_their_turns(server: Server) -> None:
    bursts(server.url, 250)
    assert server.connections <= 100


def test_a_burst_finds_the_connections_of_the_last_one(server: Server) -> None:
    server.seconds = 0.1
    bursts(server.url, 50, 50, 50)
    assert server.connections <= 50


def test_waiting_for_a_turn_is_not_counted_as_the_service_s(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.client.async_client.LIMITS", httpx2.Limits(max_connections=1))
    server.seconds = 0.1
    bursts(server.url, 9, timeout=0.7)
    assert server.connections == 1


def test_a_pause_of_one_call_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(problem(429, "overloaded", "full", **{"Retry-After": "1"}), TASKS)

    async def both() -> None:
        other_is_answered = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await other_is_answered.wait()

        def blocked(seconds: float) -> None:
            raise AssertionError("the event loop was blocked")

        monkeypatch.setattr(asyncio, "sleep", sleep)
        monkeypatch.setattr(time, "sleep", blocked)
        async with AsyncClient(URL, transport=httpx2.MockTransport(service)) as client:
            paused = asyncio.create_task(client.tasks())
            while not service.requests:
                await asyncio.wait([paused], timeout=0.001)
            assert await client.tasks() == {}
            assert not paused.done()
            other_is_answered.set()
            assert await paused == {}

    asyncio.run(asyncio.wait_for(both(), 10))
    assert len(service.requests) == 3


def test_a_call_that_is_cancelled_is_let_go_of(server: Server) -> None:
    async def cancel() -> None:
        server.seconds = 0.3
        async with AsyncClient(server.url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.tasks(), 0.05)
            server.seconds = 0.0
            assert await client.tasks() == {}

    asyncio.run(cancel())
