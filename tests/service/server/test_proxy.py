"""``udr serve`` behind a proxy: a small one of our own, from an address that the service trusts."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.service.running import serving
from tests.service.server.test_connections import problem, received

PROXY, CLIENT = "127.0.0.2", "203.0.113.7"
RECEIVE, KEEP_ALIVE = 0.5, 2.0


class Proxy:
    """Passes requests on, one after the other, over one connection that it keeps; it names the client in a header."""

    def __init__(self, service: tuple[str, int], client: str) -> None:
        self._service, self._client = service, client
        self._upstream: socket.socket | None = None
        self.opened = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with accepted:
                head, _, body = accepted.recv(65_536).partition(b"\r\n\r\n")
                # Behind what the client wrote.
                forwarded = f"\r\nX-Forwarded-For: {self._client}\r\n\r\n".encode()
                accepted.sendall(self._ask(head + forwarded + body))

    def _ask(self, request: bytes) -> bytes:
        if self._upstream is None:
            self._upstream = socket.create_connection(self._service, timeout=10, source_address=(PROXY, 0))
            self.opened += 1
        self._upstream.sendall(request)
        return received(self._upstream) or b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"

    def upstream_closed(self, within: float) -> bool:
        """Whether the service closes the kept connection within some seconds."""
        assert self._upstream is not None
        self._upstream.settimeout(within)
        try:
            return self._upstream.recv(1) == b""
        except TimeoutError:
            return False

    def close(self) -> None:
        self._listener.close()
        if self._upstream is not None:
            self._upstream.close()


@pytest.fixture(scope="module")
def service(tiny: Path) -> Iterator[tuple[str, int]]:
    options = ["--root-path", "/udr/", "--trusted-proxies", PROXY, "--keep-alive-seconds", str(KEEP_ALIVE)]
    options += ["--linger-seconds", "0", "--drain-seconds", "3"]
    variables = {"UDR_RECEIVE_SECONDS": str(RECEIVE), "UDR_CLIENT_REQUESTS_PER_SECOND": "1"}
    with serving(str(tiny), *options, **variables) as (_, url):
        parts = urlsplit(url)
        yield str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def proxy(service: tuple[str, int], request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with closing(Proxy(service, getattr(request, "param", CLIENT))) as proxy:
        yield proxy


def request(path: str, *headers: str) -> bytes:
    body = json.dumps({"scope": "all", "input": "a dull day", "k": 1}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def ask(address: tuple[str, int], path: str, *headers: str) -> bytes:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(request(path, *headers))
        return received(client)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_a_trusted_proxy_speaks_for_its_clients_and_nobody_else_does(service: tuple[str, int], proxy: Proxy) -> None:
    assert status(ask(proxy.address, "/udr/v1/retrieve")) == 200
    refused = ask(proxy.address, "/udr/v1/retrieve")
    assert problem(refused) == (429, "client-limit") and f"the address {CLIENT} is above".encode() in refused
    # This machine has no limit, and an address that is not trusted cannot take another's place.
    for _ in range(3):
        assert status(ask(service, "/v1/retrieve", f"X-Forwarded-For: {CLIENT}")) == 200


@pytest.mark.parametrize("proxy", ["203.0.113.8"], indirect=True)
def test_what_a_client_writes_before_the_proxys_entry_is_not_believed(proxy: Proxy) -> None:
    assert status(ask(proxy.address, "/v1/retrieve", "X-Forwarded-For: 198.51.100.1")) == 200
    assert b"the address 203.0.113.8 is" in ask(proxy.address, "/v1/retrieve", "X-Forwarded-For: 198.51.100.2")


@pytest.mark.parametrize("proxy", ["127.0.0.1"], indirect=True)
def test_a_connection_stays_open_between_requests_for_longer_than_one_may_take_to_arrive(proxy: Proxy) -> None:
    for _ in range(3):
        assert status(ask(proxy.address, "/udr/v1/retrieve")) == 200
        time.sleep(2 * RECEIVE)
    assert proxy.opened == 1
    assert not proxy.upstream_closed(KEEP_ALIVE - 2 * RECEIVE - 0.5) and proxy.upstream_closed(5)


@pytest.mark.parametrize("start", [b"GET", b"\r\n"])
def test_a_request_that_begins_on_a_kept_connection_has_its_time_to_arrive(
    service: tuple[str, int], start: bytes
) -> None:
    with socket.create_connection(service, timeout=10) as client:
        client.sendall(request("/v1/retrieve"))
        assert status(received(client)) == 200
        time.sleep(2 * RECEIVE)
        client.sendall(start)
        assert problem(received(client)) == (408, "slow-request")
