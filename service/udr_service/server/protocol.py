"""A connection: uvicorn's HTTP/1.1 protocol, within limits of bytes and time.

A request that never reaches the application is refused here, in the application's words.
"""

import asyncio
from contextlib import suppress
from http import HTTPStatus
from socket import socket as Socket
from typing import Any

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from udr.errors import UdrError
from udr_service.api import answer_to
from udr_service.errors import BusyError, HeadTooLargeError, MalformedRequestError, SlowRequestError
from udr_service.server.connections import OpenConnections
from udr_service.server.guest import ALIVE, ALIVE_HEADERS, ALIVE_PATH, PROBES

_PIPELINED = 16
"""Requests that may wait behind the one that is answered."""

_HEADERS = 100
"""Headers of a request: each takes more memory than its bytes."""

_HELD_BYTES = 8192
"""Bytes of a body that are read before the application asks for it."""

_PIECES, _CHOPPED_BYTES = 64, 1024
"""A body that comes in more pieces a read is read on in small reads: each piece takes microseconds, however short."""

_LINGER_SECONDS = 1.0
"""How long to read on after a refusal: closing at once would discard the answer before the client has read it."""


async def _alive(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer the probe that asks whether the event loop turns."""
    await send({"type": "http.response.start", "status": 200, "headers": ALIVE_HEADERS, "trailers": False})
    await send({"type": "http.response.body", "body": ALIVE, "more_body": False})


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One client's connection.

    Args:
        config: uvicorn's configuration.
        server_state: what uvicorn's connections share.
        app_state: the state of the application's lifespan.
        connections: the open connections, this one included while it is open.
        spare: there is no room for it; only the probes answer.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: OpenConnections,
        *,
        spare: bool = False,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._connections, self._spare = connections, spare
        self._refused = False
        # The bytes since the request began, or since the last ones that belong to its body.
        self._unparsed = 0
        self._complete = True
        self._at_once = True
        # The pieces of a body in the last read.
        self._pieces = 0
        self.connecting: asyncio.Task[None] | None = None

    @property
    def unsent(self) -> int:
        """The bytes that the client has not read."""
        return self.transport.get_write_buffer_size()

    @property
    def untried(self) -> bool:
        """Whether no request has begun on it."""
        return self.cycle is None

    silent = untried

    def abort(self) -> None:
        """Close at once, without an answer."""
        self._connections.remove(self)
        if self.transport is not None:
            self.transport.abort()
        elif self.connecting is not None:
            self.connecting.cancel()

    def time_out(self) -> None:
        """Refuse the request whose head takes too long to arrive, or close a connection that never sent one."""
        if self._unparsed and not self._refused:
            seconds = self._connections.limits.receive_seconds
            self._refuse(SlowRequestError(f"the request did not arrive within {seconds:g} seconds"))
        elif self.cycle is None or self._refused or (self.cycle.response_complete and not self._complete):
            self.abort()
        elif self.cycle.response_complete:
            # Uvicorn closes it after the time that it keeps connections alive.
            self._connections.idle(self)
        else:
            # The application reads the body, and has a time limit of its own.
            self._connections.wait(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open."""
        super().connection_made(transport)
        # Now, since a TLS connection that is lost has no socket any more.
        socket: Socket = transport.get_extra_info("socket")
        self._descriptor = socket.fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connections.remove(self)
        self._sends_much(False)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read into; without it, asyncio would read 256 KiB at once, for each connection."""
        if self._pieces > _PIECES and not self._refused:
            return self._connections.buffer[:_CHOPPED_BYTES]
        answered = not self._complete and self.cycle is not None and self.cycle.response_complete
        return self._connections.discarded if self._refused or answered else self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what was read."""
        self._pieces = 0
        self.data_received(bytes(self._connections.discarded[:nbytes]))
        self._sends_much(self._refused or not self._complete)

    def _sends_much(self, much: bool) -> None:
        self._connections.selector.sends_much(self._descriptor, much)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent."""
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            # Whatever comes begins a request, which has its time to arrive.
            self._connections.wait(self)
            self._unset_keepalive_if_required()
        self._at_once = True
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered without an upgrade, and what follows it is not HTTP.
            self._refused, self.cycle.keep_alive = True, False
        except httptools.HttpParserError as error:
            cause = error.__context__
            known = cause if isinstance(cause, UdrError) else MalformedRequestError("the request is not valid HTTP/1.1")
            self._refuse(known)
        else:
            if self._unparsed > self._connections.limits.head_bytes:
                self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._complete = False
        if self.cycle is None or self.cycle.response_complete:
            self._connections.wait(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if len(self.headers) >= _HEADERS:
            raise HeadTooLargeError(f"the request has more than {_HEADERS} headers, the limit of this service")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._unparsed = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._connections.limits.head_bytes:
            raise self._too_large()
        if len(self.pipeline) >= _PIPELINED:
            raise BusyError(f"more than {_PIPELINED} requests wait on this connection; wait for their answers")
        if self._spare and self.url.partition(b"?")[0] not in PROBES:
            raise BusyError(f"the service has {len(self._connections)} connections, its limit; try again later")
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        def start() -> None:
            # Nobody waits for it if the client has hung up meanwhile.
            if not cycle.disconnected:
                super(Connection, self)._start_asgi_task(cycle, app)

        alive = (cycle.scope["method"], cycle.scope["raw_path"]) == ("GET", ALIVE_PATH)
        if alive and self._at_once and cycle.keep_alive and not self.flow.write_paused:
            # At once, since a task would wait for the interpreter several times; but one a read, since others wait.
            self._at_once = False
            with suppress(StopIteration):
                cycle.run_asgi(_alive).send(None)
        elif self._at_once and cycle.scope["raw_path"] in PROBES:
            self._at_once = False
            start()
        else:
            self._connections.starts.add(start)

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._unparsed = 0
        self._pieces += 1
        super().on_body(body)
        if len(self.cycle.body) > _HELD_BYTES and not self.cycle.response_complete:
            # Until the application asks for it.
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._unparsed, self._complete = 0, True
        super().on_message_complete()
        if self.cycle.response_complete:
            self._connections.wait(self)
        else:
            self._connections.received(self)

    def on_response_complete(self) -> None:
        """The answer is written, though its client may not have read it."""
        pipelined = bool(self.pipeline)
        super().on_response_complete()
        if not pipelined:
            self._connections.wait(self)

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer is written."""
        super().pause_writing()
        self._connections.unread(self)

    def resume_writing(self) -> None:
        """The client has read most of what waited."""
        super().resume_writing()
        self._connections.read(self)

    def _too_large(self) -> HeadTooLargeError:
        limit = self._connections.limits.head_bytes
        return HeadTooLargeError(
            f"the request line and headers are larger than {limit} bytes, the limit of this service (max_head_bytes); "
            "a filter of rows to list is part of the line: list them by filters with fewer values"
        )

    def _refuse(self, error: UdrError) -> None:
        """Answer with a problem and close; close at once if another answer is on its way."""
        self._refused = True
        # Nothing is parsed any more, so what was need not be kept.
        self.headers, self.url = [], b""
        self._connections.refused()
        if self.cycle is not None and not self.cycle.response_complete:
            self.abort()
            return
        response = answer_to(error, "", {"Connection": "close"})
        head = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()
        lines = [head, *(name + b": " + value for name, value in response.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._connections.wait(self)
        # A few in each turn of the loop, since a crowd that was refused at once would be closed at once.
        self.loop.call_later(_LINGER_SECONDS, self._connections.starts.add, self.abort)
