"""Attacks by how bytes are sent: those that never complete a request, never read an answer, or are not HTTP."""

from collections.abc import Mapping

from hostile_client import Attack, head, post
from hostile_floods import BODY
from hostile_index import LONG, Keys
from service_made_up import sentence

_HALF = b"GET /v1/info HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Wait: "
_MANY_HEADERS = b"".join(b"X-%06d: %s\r\n" % (number, b"x" * 1_000) for number in range(1_000))
_TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(32)) + bytes(160)
_UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


def _half_body(keys: Keys) -> bytes:
    return post("/v1/retrieve", b" " * BODY, keys.hostile)[: -BODY // 2]


def _chunked(keys: Keys, start: bytes) -> list[bytes]:
    return [
        head("POST", "/v1/retrieve", keys.hostile, "Content-Type: application/json", "Transfer-Encoding: chunked")
        + start
    ]


def _large_answer(keys: Keys) -> bytes:
    items = [{"task": LONG, "input": sentence(f"{n}"), "k": 256} for n in range(64)]
    return post("/v1/retrieve/batch", {"requests": items}, keys.hostile)


def _garbage(_: Keys) -> list[bytes]:
    """What is not a request of HTTP/1.1, or asks for another protocol."""
    return [
        b"GET /\r\n\r\n",
        _TLS_HELLO,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 4_096,
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
        head("GET", "/v1/info", "", *_UPGRADE),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"\xff" * 1_000 + b"\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ]


BYTES: Mapping[str, Attack] = {
    "headers": Attack(
        about="one connection that sends 1 MB of headers, again and again",
        requests=lambda _: [b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"],
        drip=_MANY_HEADERS,
    ),
    "header-lines": Attack(
        about="200 connections with 60 KB of headers, of one letter each, that never end",
        requests=lambda _: [b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X:\r\n" * 15_000],
        clients=200,
    ),
    "long-target": Attack(
        about="one connection whose target never ends", requests=lambda _: [b"GET /"], drip=b"x" * 1_000_000
    ),
    "half-headers": Attack(
        about="2,000 connections that send half a header and wait; opened again when closed",
        requests=lambda _: [_HALF],
        clients=2_000,
    ),
    "slow-headers": Attack(
        about="1,000 connections that send a byte of a header each second",
        requests=lambda _: [_HALF],
        clients=1_000,
        drip=b"x",
        pause=1.0,
    ),
    "half-bodies": Attack(
        about="300 connections that declare 2 MiB, send half and wait",
        requests=lambda keys: [_half_body(keys)],
        clients=300,
    ),
    "slow-bodies": Attack(
        about="300 connections that send a byte of a body each second",
        requests=lambda keys: [post("/v1/retrieve", b" " * BODY, keys.hostile)[:400]],
        clients=300,
        drip=b" ",
        pause=1.0,
    ),
    "anonymous-bodies": Attack(
        about="300 connections without a key that declare 2 MiB, send half and wait",
        requests=lambda _: [_half_body(Keys())],
        clients=300,
    ),
    "descriptors": Attack(
        about="1,500 connections, where the server may open 2,000 files; its index takes most",
        requests=lambda _: [_HALF],
        clients=1_500,
        descriptors=2_000,
    ),
    "idle": Attack(about="1,000 connections that send nothing", requests=lambda _: [b""], clients=1_000),
    "reconnect": Attack(
        about="connections that ask, and close before the answer",
        requests=lambda keys: [head("GET", "/v1/tasks", keys.hostile)],
        clients=16,
        hang_up=0.005,
    ),
    "pipelining": Attack(
        about="8 connections, each with 5,000 requests at once, that never read the answers",
        requests=lambda keys: [head("GET", "/v1/info", keys.hostile) * 5_000, head("GET", "/livez") * 5_000],
        clients=8,
        reads=False,
        hang_up=5.0,
    ),
    "slow-reader": Attack(
        about="32 connections that ask for large answers and never read them",
        requests=lambda keys: [_large_answer(keys)],
        clients=32,
        reads=False,
    ),
    "garbage": Attack(
        about="TLS, HTTP/0.9, HTTP/2, CONNECT, upgrades, zeros to a plain port", requests=_garbage, clients=16
    ),
    "chunks": Attack(
        about="a body in chunks of one byte",
        requests=lambda keys: _chunked(keys, b""),
        drip=b"1\r\n \r\n" * 20_000,
        clients=4,
    ),
    "chunk-extensions": Attack(
        about="a chunk whose extension never ends", requests=lambda keys: _chunked(keys, b"1;"), drip=b"x" * 100_000
    ),
    "trailers": Attack(
        about="trailers that never end", requests=lambda keys: _chunked(keys, b"0\r\n"), drip=_MANY_HEADERS
    ),
}
