"""Connections within limits: raw sockets against a small application on a server of its own."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from udr_service import listening
from udr_service.observability import Metrics
from udr_service.server import BoundedServer, Limits

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMITS: dict[str, Any] = {
    "connections": 50,
    "by_address": 50,
    "exempt": (),
    "head_bytes": 1000,
    "receive_seconds": 0.5,
    "unsent_bytes": 1_000_000,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after the body: its length; ``/large``: 20 MB; ``/wait``: after the client is gone."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/wait":
        await receive()
    content = bytes(20_000_000) if scope["path"] == "/large" else str(size).encode()
    head = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def bounded(*, keep_alive: int = 5, **limits: Any) -> Iterator[tuple[str, int]]:
    """Serve the application within limits; yields the address."""
    with listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            timeout_keep_alive=keep_alive,
        )
        server = BoundedServer(config, Limits(**LIMITS | limits), Metrics([]))
        address = listener.getsockname()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def call(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts on a new connection; return all that comes back until the server closes, or answers whole."""
    with socket.create_connection(address, timeout=10) as client:
        with suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
        return received(client)


def received(client: socket.socket) -> bytes:
    """Return an answer; empty if the connection is closed without one."""
    content = b""
    while b"\r\n\r\n" not in content or len(content.partition(b"\r\n\r\n")[2]) < length(content):
        try:
            part = client.recv(65_536)
        except ConnectionResetError:
            return content
        if not part:
            return content
        content += part
    return content


def length(answer: bytes) -> int:
    head = answer.partition(b"\r\n\r\n")[0].lower()
    return int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])


def problem(answer: bytes) -> tuple[int, str]:
    """Return the status and the type of a problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["type"].removeprefix("urn:udr:problem:")


def test_a_request_within_the_limits_is_answered() -> None:
    with bounded() as address:
        assert call(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n", bytes(300)).endswith(
            b"\r\n300"
        )


def test_a_body_in_pieces_of_a_byte_arrives_whole() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with bounded() as address:
        assert call(address, head, b"1\r\nx\r\n" * 20_000, b"0\r\n\r\n").endswith(b"\r\n20000")


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\n", b"A: " + b"a" * 2000],
        [b"GET /" + b"a" * 2000],
        [b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n"],
    ],
    ids=["value", "path", "headers"],
)
def test_a_head_above_the_limit_is_refused(parts: list[bytes]) -> None:
    with bounded() as address:
        assert problem(call(address, *parts)) == (431, "head-too-large")


def test_a_filter_that_makes_the_request_line_too_long_is_told_of() -> None:
    with bounded() as address:
        assert b"list them by filters with fewer values" in call(address, b"GET /?filter=" + b"a" * 2000)


def test_trailers_are_limited_like_headers() -> None:
    head = b"POST /wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    with bounded() as address:
        assert call(address, head, *[b"A: b\r\n" * 100] * 5, pause=0.05) == b""


def test_what_is_not_http_is_refused() -> None:
    with bounded() as address:
        assert problem(call(address, b"\x16\x03\x01\x02\x00\x01\x00")) == (400, "malformed-request")
        assert problem(call(address, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 400


def test_an_upgrade_is_answered_without_one() -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"
    with bounded() as address:
        assert call(address, request).startswith(b"HTTP/1.1 200 OK")


def test_half_a_head_is_refused_after_the_time_limit() -> None:
    with bounded() as address:
        started = time.monotonic()
        assert problem(call(address, b"GET / HTTP/1.1\r\nHost:")) == (408, "slow-request")
        assert 0.4 < time.monotonic() - started < 5


def test_dripping_does_not_extend_the_time_limit() -> None:
    with bounded() as address:
        answer = call(address, b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 6, pause=0.15)
        assert problem(answer) == (408, "slow-request")


def test_an_idle_connection_is_closed_after_the_time_limit() -> None:
    with bounded() as address:
        assert call(address) == b""


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    with bounded() as address, socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.5)
        assert len(received(client)) < 20_000_000


def test_unread_answers_are_bounded_in_all() -> None:
    with bounded(unsent_bytes=30_000_000, receive_seconds=30) as address, ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.2)
        assert len(received(clients[0])) < 20_000_000
        assert len(received(clients[2])) > 20_000_000


def test_the_longest_waiting_connection_yields_to_a_newcomer() -> None:
    with bounded(connections=3, receive_seconds=30) as address, ExitStack() as stack:
        first, second, third = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(3)]
        first.sendall(GET)
        assert received(first).startswith(b"HTTP/1.1 200")
        # The first has waited since its answer only, the second since it came.
        assert call(address, GET).startswith(b"HTTP/1.1 200")
        assert second.recv(1) == b""
        first.sendall(GET)
        assert received(first).startswith(b"HTTP/1.1 200")
        third.sendall(GET)
        assert received(third).startswith(b"HTTP/1.1 200")


def test_when_none_waits_only_the_probes_answer_newcomers() -> None:
    with bounded(connections=2, receive_seconds=30) as address, ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(socket.create_connection(address, timeout=10))
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        assert call(address, GET).startswith(b"HTTP/1.1 200")
        assert problem(call(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")) == (503, "busy")


def test_pipelined_requests_are_bounded() -> None:
    with bounded() as address:
        assert call(address, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 100) == b""


def test_pipelined_probes_are_bounded_like_all_requests() -> None:
    with bounded() as address, socket.create_connection(address, timeout=10) as client:
        alive = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(alive * 10)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 10:
            answers += client.recv(65_536)
        client.sendall(alive * 100)
        answers = b""
        with suppress(ConnectionResetError):
            while part := client.recv(65_536):
                answers += part
        assert answers.count(b"HTTP/1.1 200") < 20


def test_pipelined_requests_are_answered_in_order() -> None:
    with bounded() as address, socket.create_connection(address, timeout=10) as client:
        client.sendall(b"".join(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % n + bytes(n) for n in range(5)))
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 5 or not answers.endswith(b"4"):
            answers += client.recv(65_536)
        assert [part[-1:] for part in answers.split(b"HTTP/1.1 200")[1:]] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_connection_that_asks_whether_the_service_lives_may_ask_again_and_then_something_else() -> None:
    with bounded(receive_seconds=0.2) as address, socket.create_connection(address, timeout=10) as client:
        for _ in range(3):
            client.sendall(GET)
            answer = received(client)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b'{"status":"alive"}')
            # Longer than a first request may take, shorter than a connection is kept alive.
            time.sleep(0.5)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert received(client).endswith(b"\r\n5")


def test_a_connection_that_asked_whether_the_service_lives_is_closed_after_a_while() -> None:
    with bounded(receive_seconds=0.2, keep_alive=1) as address, socket.create_connection(address, timeout=10) as client:
        client.sendall(GET)
        received(client)
        started = time.monotonic()
        assert client.recv(1) == b""
        assert 0.5 < time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("whole", GET),
        ("in pieces", b"GET /livez HTTP/1.1\r\nHo|st: localhost\r\n\r\n"),
        ("kept", b"GET /livez HTTP/1.1\r\nhost:x\r\nConnection: keep-alive\r\nUser-Agent: kube-probe/1.31\r\n\r\n"),
        ("closed", b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ],
)
def test_the_same_answer_says_that_the_service_lives_whoever_gives_it(name: str, head: bytes) -> None:
    with bounded() as address:
        answer = call(address, *head.split(b"|"), pause=0.05 if "pieces" in name else 0)
        lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        closes = {b"connection": b"close"} if "closed" in name else {}
        assert lines[0] == b"http/1.1 200 ok"
        assert fields.pop(b"date").endswith(b"gmt")
        assert fields.pop(b"server", b"uvicorn") == b"uvicorn"
        assert fields == {b"content-type": b"application/json", b"content-length": b"18", **closes}
        assert answer.endswith(b'{"status":"alive"}')


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nBad\x00: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: x\n\x01\n",
    ],
)
def test_a_probe_that_is_not_http_is_refused(head: bytes) -> None:
    with bounded() as address:
        assert problem(call(address, head))[0] == 400
