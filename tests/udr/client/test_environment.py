"""Clients in environments as people have them: proxies, certificates, forks, several event loops."""

import asyncio
import multiprocessing
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from udr.client import AsyncClient, Client
from udr.errors import ConfigError, ServiceError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
FAR = "http://udr.invalid:8000"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Tasks(BaseHTTPRequestHandler):
    """Answers as a service without tasks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"tasks": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Tasks) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "variables",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "[::1,"},
        {"http_proxy": "nonsense"},
        {"HTTP_PROXY": "", "ALL_PROXY": ""},
        {"SSL_CERT_FILE": "/no/such/file.pem"},
    ],
    ids=str,
)
def test_a_service_on_this_machine_is_reached_whatever_the_variables(
    address: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Client(address) as client:
        assert client.tasks == {}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ALL_PROXY",
            "socks5://me:secret@proxy.invalid:9",
            r"ALL_PROXY=socks5://\*\*\*@proxy.invalid:9: a SOCKS proxy ",
        ),
        ("https_proxy", "ftp://x:1", "https_proxy=ftp://x:1: .*; correct or unset the variable"),
        ("SSL_CERT_FILE", "/no/such.pem", r"SSL_CERT_FILE=/no/such.pem: No such file or directory; correct or unset"),
    ],
)
def test_variables_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=message) as raised:
            kind("https://udr.invalid")
        assert "secret" not in str(raised.value)


def test_the_proxy_is_named_if_the_service_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    through = r"through HTTP_PROXY=http://\*\*\*@127.0.0.1:9 \(.*\); check the variable"
    with Client(FAR, retries=0) as client, pytest.raises(ServiceError, match=through):
        _ = client.tasks
    monkeypatch.setenv("NO_PROXY", "udr.invalid")
    with Client(FAR, retries=0) as client, pytest.raises(ServiceError, match=r"reached \(.*\); start the service, or"):
        _ = client.tasks


def test_an_async_client_serves_several_event_loops(address: str) -> None:
    client = AsyncClient(address)

    async def ask() -> None:
        for _ in range(2):
            assert await client.tasks() == {}
        await client.close()

    for _ in range(3):
        asyncio.run(ask())


def test_a_client_works_in_a_fork_beside_its_parent(address: str) -> None:
    with Client(address) as client:
        _ = client.tasks
        # A child that is never left behind: it answers within the time or is killed.
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of the server's thread, which the child does not use.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = context.Process(target=lambda: theirs.send(client.tasks))
            child.start()
        child.join(20)
        child.kill()
        assert ours.poll() and ours.recv() == {}
        assert client.tasks == {}


def test_certificates_matter_to_https_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        Client("https://localhost:8000")
