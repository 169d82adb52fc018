"""Deadlines of whole calls: servers that drip, do not read or never end, and answers that are too large."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.clients import Connect, Service, problem
from udr.client import deadline
from udr.errors import DeadlineError, OverloadedError, ServiceError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWER = HEAD + b"Content-Length: 13\r\n\r\n" + b'{"tasks": []}'


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], object]) -> Iterator[str]:
    """Answer each connection by a function, which stops when the event is set; yields the address."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection, done)
                    except OSError:
                        # The client has gone.
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def drip(start: bytes, part: bytes) -> Callable[[socket.socket, threading.Event], object]:
    def answer(connection: socket.socket, done: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while not done.wait(0.05):
            connection.sendall(part)

    return answer


DRIPS = {
    "header": drip(HEAD + b"X-Slow: ", b"a"),
    "body": drip(HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk header": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"a"),
    "interim answers": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize("kind", DRIPS)
def test_a_server_that_drips_is_a_deadline_error(connect: Connect, kind: str) -> None:
    with server(DRIPS[kind]) as url:
        client, started = connect(url, timeout=0.3), time.monotonic()
        with pytest.raises(DeadlineError, match=r"no answer within 0\.3 seconds"):
            _ = client.tasks
        assert 0.25 < time.monotonic() - started < 30
        assert client.ready() is False
        # It would drip for ever.
        assert time.monotonic() - started < 60


def test_each_call_on_a_connection_has_its_own_deadline(connect: Connect) -> None:
    def answer(connection: socket.socket, done: threading.Event) -> None:
        for _ in range(6):
            connection.recv(65536)
            done.wait(0.3)
            connection.sendall(ANSWER)
        DRIPS["body"](connection, done)

    with server(answer) as url:
        # Together they take longer.
        client = connect(url, timeout=1.5)
        assert [client.tasks for _ in range(6)] == [{}] * 6
        with pytest.raises(DeadlineError):
            _ = client.tasks


def test_a_server_that_does_not_read_is_a_deadline_error(connect: Connect) -> None:
    read = list[bytes]()

    def answer(connection: socket.socket, done: threading.Event) -> None:
        while not done.wait(0.05):
            read.append(connection.recv(1))

    # More than the buffers of two sockets, and little enough to be encoded long before the deadline.
    with server(answer) as url, pytest.raises(DeadlineError):
        connect(url, timeout=2).retrieve("task", "a" * 16_000_000)
    assert b"".join(read).startswith(b"P")


def test_retries_and_their_pauses_count_towards_the_timeout(connect: Connect) -> None:
    started = time.monotonic()
    with pytest.raises(OverloadedError):
        _ = connect(Service(problem(429, "overloaded", "full")), timeout=1.2, retries=9).tasks
    # Nine retries would pause for minutes.
    assert 0.4 < time.monotonic() - started < 30


def test_an_answer_that_is_too_large_is_refused_before_it_is_whole(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "MOST_BYTES", 2**20)
    with server(drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 2**16 + b"\r\n")) as url:
        with pytest.raises(ServiceError, match="the answer has more than 1 MiB; ask for less at once"):
            _ = connect(url).tasks


def test_a_compressed_answer_is_read(connect: Connect) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=gzip.compress(ANSWER[-13:]), headers={"Content-Encoding": "gzip"})

    assert connect(answer).tasks == {}
