"""What ``hostile.py`` watches during an attack, in a process of its own: a heartbeat, and an honest client.

The heartbeat asks ``/livez`` every 20 ms, on one connection that it keeps and on a new one each time. A latency counts
from when the request is due until it is answered with 200, however often it must be sent. The same heartbeat goes to a
server that does nothing and that nobody attacks: its latencies are those of the machine, not of the service.
"""

import asyncio
import gc
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hostile_client import LOST, Connection, head, post
from service_made_up import request_of

BEAT_SECONDS, ASK_SECONDS = 0.02, 0.05
DEADLINE_SECONDS = 10.0
"""The service's default."""

_AGAIN_SECONDS = 0.005
_LONGEST_SECONDS = 30.0
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_UNANSWERED = "none"


@dataclass(frozen=True, slots=True)
class Phases:
    """The times, by ``time.monotonic``, at which the quiet, the attack and the time afterwards start, and the end."""

    quiet: float
    attack: float
    after: float
    end: float

    def of(self, moment: float) -> str:
        """Return the phase of a time; a latency belongs to that in which it ends."""
        return "quiet" if moment < self.attack else "attack" if moment < self.after else "after"


@dataclass(slots=True)
class Seen:
    """The latencies in one phase.

    Attributes:
        beat: the longest of the heartbeat, in seconds.
        idle: the same, of the server that does nothing.
        asked: the longest of the honest client, in seconds.
        statuses: of its answers, each within the deadline or counted as ``none``.
        reconnected: how often its connection was closed.
    """

    beat: float = 0.0
    idle: float = 0.0
    asked: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    reconnected: int = 0


def watch(port: int, idle_port: int, key: str, phases: Phases) -> dict[str, Seen]:
    """Return what was seen in each phase."""
    gc.freeze()
    gc.disable()
    seen = {phase: Seen() for phase in ("quiet", "attack", "after")}

    def beat(phase: str, latency: float) -> None:
        seen[phase].beat = max(seen[phase].beat, latency)

    def idle(phase: str, latency: float) -> None:
        seen[phase].idle = max(seen[phase].idle, latency)

    async def all_of_them() -> None:
        servers = ((port, beat), (idle_port, idle))
        beats = [_beats(at, kept, phases, note) for at, note in servers for kept in (True, False)]
        await asyncio.gather(*beats, _asks(port, key, phases, seen))

    asyncio.run(all_of_them())
    return seen


async def _beats(port: int, kept: bool, phases: Phases, note: Callable[[str, float], None]) -> None:
    request, due, pulse = head("GET", "/livez"), phases.quiet, _Asker(port)
    while due < phases.end:
        await asyncio.sleep(due - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(due + _LONGEST_SECONDS - time.monotonic()):
                while await pulse.ask(request) != "200":
                    await asyncio.sleep(_AGAIN_SECONDS)
        if not kept:
            pulse.close()
        now = time.monotonic()
        note(phases.of(now), now - due)
        due = max(due + BEAT_SECONDS, now)


async def _asks(port: int, key: str, phases: Phases, seen: dict[str, Seen]) -> None:
    due, asker, number = phases.quiet, _Asker(port), 0
    while due < phases.end:
        await asyncio.sleep(due - time.monotonic())
        number += 1
        request, status = post("/v1/retrieve", request_of(number), key), _UNANSWERED
        with suppress(TimeoutError):
            async with asyncio.timeout(due + DEADLINE_SECONDS - time.monotonic()):
                # As clients do when a connection that was idle turns out to be closed.
                while (status := await asker.ask(request)) == LOST:
                    await asyncio.sleep(_AGAIN_SECONDS)
        if status == _UNANSWERED:
            asker.close()
        now = time.monotonic()
        phase = seen[phases.of(now)]
        phase.statuses[status] += 1
        phase.asked = max(phase.asked, now - due)
        phase.reconnected += asker.forget_reopened()
        due = max(due + ASK_SECONDS, now)


class _Asker:
    """A client on one connection, which it opens again when it is closed."""

    def __init__(self, port: int) -> None:
        self._port, self._opened = port, -1
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> str:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await Connection.open(self._port)
                self._opened += 1
        except OSError:
            return LOST
        return await self._connection.send(request)

    def forget_reopened(self) -> int:
        opened, self._opened = self._opened, 0
        return max(0, opened)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.transport.abort()
            self._connection = None


class _Idle(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answer: Callable[[bytes], object] = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._answer(_ANSWER)


def do_nothing(listener: socket.socket) -> None:
    """Answer every request on a listening socket with 200, until the process is terminated."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Idle, sock=listener)
        await server.serve_forever()

    gc.freeze()
    gc.disable()
    asyncio.run(serve())
