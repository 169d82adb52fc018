"""A stand-in for a language model's server: an OpenAI-compatible endpoint that answers as a test says."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "fake",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "sad"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
TOKENS = ("s", "a", "d")


def chunk(content: str | None, finish: str | None = None) -> bytes:
    """An event of a stream, with a part of the answer."""
    delta = {} if content is None else {"role": "assistant", "content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {**COMPLETION, "object": "chat.completion.chunk", "choices": choices}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STREAM = [*map(chunk, TOKENS), chunk(None, "stop"), DONE]


@dataclass(frozen=True)
class Received:
    """A request; ``body`` is its content as JSON, None if it is none."""

    path: str
    headers: Message
    content: bytes
    body: Any


class Exchange(BaseHTTPRequestHandler):
    """A request, and the means to answer it."""

    protocol_version = "HTTP/1.1"
    received: Received

    def do_POST(self) -> None:
        upstream: Upstream = self.server.upstream  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        body = None
        with suppress(ValueError):
            body = json.loads(content)
        # One object serves all requests of a connection.
        self.received = Received(self.path, self.headers, content, body)
        upstream.requests.append(self.received)
        try:
            upstream.behave(self)
        except (BrokenPipeError, ConnectionResetError):
            upstream.hung_up.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        """Answer at once."""
        self.send_response(status)
        for name, value in {"Content_Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, parts: Sequence[bytes], pause: Callable[[], object] = lambda: None, *, whole: bool = True) -> None:
        """Answer in chunks, with a pause after each; an answer that is not whole breaks off."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in [*parts, *([b""] if whole else [])]:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()
            pause()
        self.close_connection = self.close_connection or not whole


def completes(exchange: Exchange) -> None:
    """Answer with a completion, or with a stream of one."""
    body = exchange.received.body
    if isinstance(body, dict) and body.get("stream") is True:
        exchange.stream(STREAM)
    else:
        exchange.answer(200, json.dumps(COMPLETION).encode(), X_Request_Id="upstream-1", Set_Cookie="a=b")


def refuses(status: int, body: object, **headers: str) -> Callable[[Exchange], None]:
    """Answer each request with an error."""
    return lambda exchange: exchange.answer(status, json.dumps(body).encode(), **headers)


def hangs(exchange: Exchange) -> None:
    """Answer nothing until the client hangs up."""
    exchange.connection.settimeout(20)
    with suppress(TimeoutError):
        if not exchange.connection.recv(1):
            raise BrokenPipeError


def hangs_up(exchange: Exchange) -> None:
    """Close the connection without an answer."""
    exchange.close_connection = True


def flows(exchange: Exchange) -> None:
    """Stream until the client hangs up, for at most 20 seconds."""
    exchange.stream([chunk("s")] * 2000, lambda: time.sleep(0.01))


@dataclass
class Upstream:
    """A server on this machine.

    Attributes:
        url: its address, up to and including ``/v1``.
        behave: what answers a request.
        requests: those that it got.
        hung_up: set once a client has hung up before the end of an answer.
    """

    url: str
    behave: Callable[[Exchange], None] = completes
    requests: list[Received] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Run a server until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Exchange) as server:
        server.daemon_threads = True
        server.upstream = fake = Upstream(f"http://127.0.0.1:{server.server_port}/v1")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
