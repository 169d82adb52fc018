"""A worker: the server of a process that shares its port, its limits and its reloads with others."""

import asyncio
import signal
import socket
from contextlib import AsyncExitStack, suppress
from types import FrameType

import uvicorn

from udr_service.auth import KeyRing
from udr_service.errors import ReloadError
from udr_service.server.acceptor import Acceptor
from udr_service.server.channel import Handler
from udr_service.server.index_server import IndexServer
from udr_service.server.member import Member
from udr_service.serving import Count, Prepared, Reloaded, Service, SharedShares

_YIELD_SECONDS = 0.002
"""How long a worker leaves a new connection to those that have fewer."""

_REPORT_SECONDS = 1.0
"""How often a worker says what it has counted."""


class SharingAcceptor(Acceptor):
    """Accepts connections from a port that other workers accept from, too: those with fewer connections go first."""

    at_once = 8
    alone = False
    shares: SharedShares
    _yielded = _closing = False

    def _accept(self) -> bool:
        yields = not self._closing and not self._yielded and self.shares.has_fewer(len(self._connections))
        self._yielded = yields
        if yields:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_YIELD_SECONDS, self._listen)
            return False
        return super()._accept()

    async def close(self) -> None:
        """See ``Acceptor.close``."""
        self._closing = True
        await super().close()


class SharingServer(IndexServer):
    """The server of a worker; the process that started it says when it begins to accept connections, and when it stops.

    Args:
        config: uvicorn's configuration.
        service: the service, which has a team.
        address: the service's URL.
        member: that team.
    """

    # The first process gets the signal, too, and has all workers reload.
    _reloads_at_sighup = False

    def __init__(self, config: uvicorn.Config, service: Service, address: str, member: Member) -> None:
        super().__init__(config, service, address, member.tls, member.shares)
        self._member = member
        self._sockets: list[socket.socket] = []
        self._prepared = AsyncExitStack()
        self._waits: Prepared | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; accept connections at once or when this worker may."""
        self._sockets = sockets or []
        # While the index loads, nobody else answers at first; then the others do.
        await super().startup(self._sockets if self._member.version is None else [])
        self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._count())]

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        acceptor = self._accepting(SharingAcceptor, listener)
        acceptor.shares = self._member.shares
        return acceptor

    async def _listen(self) -> None:
        calls: dict[str, Handler] = {"prepare": self._prepare, "use": self._use, "drop": self._drop}
        calls |= {"renew": self._renew, "lost": self._take_over}
        await self._member.run({**calls, "damage": self._damage, "reload": self.reload, "end": self._end})
        # The process that started this one is gone.
        await self._end(False)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            await self._service.gauge()
            self._member.report(await asyncio.to_thread(self._service.metrics.report))

    def announce(self, summary: str) -> None:
        """Say that this worker can answer, and begin to."""
        self._tasks.append(asyncio.create_task(self._begin(summary)))

    async def _begin(self, summary: str) -> None:
        with suppress(ConnectionError):
            await self._member.ready(str(self._service.current.version), summary)
            if self._service.current.draining:
                return
            self._member.shares.hold(Count.READY, 1)
            if not self._acceptors:
                self._acceptors = [self._acceptor(each) for each in self._sockets]

    async def _renew(self, ring: KeyRing | None) -> None:
        if self._member.keys is not None and ring is not None:
            self._member.keys.ring = ring
        await asyncio.to_thread(self.read_certificate)

    async def _prepare(self, version: str | None) -> Reloaded:
        prepared = await self._prepared.enter_async_context(self._service.reloader.prepared(version))
        self._waits = prepared
        return prepared.reloaded

    async def _use(self) -> None:
        if self._waits is not None:
            self._service.reloader.use(self._waits)
        await self._drop()

    async def _drop(self) -> None:
        self._waits = None
        await self._prepared.aclose()

    async def _take_over(self) -> None:
        """Have all workers take over the published version if nobody can open that of this one any more."""
        with self._service.current.lease() as active:
            lost = not active.retriever.path.exists()
        if lost:
            # A refusal is logged where it happens.
            with suppress(ReloadError):
                await self._service.reloader.reload("a worker that could not start")

    async def _damage(self, problem: str) -> None:
        self._service.current.damage = problem

    async def _end(self, at_once: bool) -> None:
        """Finish the requests in flight and end; or end at once."""
        if at_once or not self._service.current.draining:
            self._member.shares.hold(Count.READY, 0)
            # All workers end.
            for acceptor in self._acceptors:
                acceptor.alone = True
            super().handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at SIGTERM. Ctrl-C goes to all processes, and the first one decides what it means."""
        if sig == signal.SIGTERM and not self._service.current.draining:
            self._member.shares.hold(Count.READY, 0)
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down, and say what was counted until then."""
        await super().shutdown(sockets)
        await self._service.gauge()
        self._member.report(self._service.metrics.report())
        # What was written is sent in the next turn of the loop.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
