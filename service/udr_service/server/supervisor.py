"""The supervisor: the first of several processes. It starts the workers, replaces those that end, and links them."""

import asyncio
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from udr.cli import STATUS
from udr.errors import UdrError
from udr.store.live import WriterLock
from udr_service.auth import KeyFile
from udr_service.errors import WorkerError
from udr_service.observability import Report, added, lasting, of_workers
from udr_service.server.channel import Channel
from udr_service.server.index_server import certificate
from udr_service.server.member import SIGNALS, Member, fork
from udr_service.serving import Reloaded, SharedShares
from udr_service.settings import Settings

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_FIRST_WORD = 2.0
"""Seconds after which workers that load are counted; the time doubles, up to the longest pause."""

_LONG_LIFE = 10.0
"""Seconds after which a worker's end says nothing about the next one's."""

_PATIENCE = 10.0
"""How long workers may take to end, beyond what the settings allow; then they are killed."""

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    """A worker: its number, process, end of the channel, and what it has counted."""

    number: int
    process: int
    end: socket.socket
    channel: Channel
    task: "asyncio.Task[None] | None" = None
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    leads: bool = False
    reloads: int = 0  # how many there had been when it started
    report: Report = field(default_factory=list)


class Supervisor:
    """Runs workers until SIGINT or SIGTERM; they are forks of this process, which has one thread.

    Args:
        settings: the settings, with the number of workers.
        listener: the listening socket, which all workers accept from.
        shares: what they hold together.
        work: what each does, in its own process.
        writer: the lock of the writer, which this process takes for all of them.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        shares: SharedShares,
        work: Callable[[Member], None],
        writer: WriterLock,
    ) -> None:
        self._writer = writer
        self._settings, self._listener, self._shares, self._work = settings, listener, shares, work
        self._workers: dict[int, _Worker] = {}
        self._ending: set[asyncio.Task[None]] = set()
        # How often in a row a worker ended soon after its start.
        self._quick = [0] * settings.workers
        self._version: str | None = None
        # As the last reload found them: what the files hold now need not be valid, and is not what the others have.
        self._keys = KeyFile(settings.keys) if settings.keys else None
        self._tls = certificate(settings)
        self._reloads = 0
        self._retired: Report = []
        self._restarts, self._announced, self._stopping = 0, False, False
        self._failure: Exception | None = None

    def run(self) -> None:
        """Run the workers until all have ended.

        Raises:
            UdrError: the first ones could not start.
        """
        asyncio.run(self._run())
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._lock, self._ended = asyncio.Lock(), asyncio.Event()
        for each, handle in zip(SIGNALS, (self._stop, self._stop, self._hang_up, self._reap), strict=True):
            loop.add_signal_handler(each, handle)
        for number in range(self._settings.workers):
            self._start(number)
        loop.call_later(_FIRST_WORD, self._tell_loading, _FIRST_WORD)
        await self._ended.wait()

    def _tell_loading(self, seconds: float) -> None:
        """Say how many workers are ready, until all are; a thread that ticks would be one too many for a fork."""
        if not self._announced and not self._stopping:
            STATUS.notice(f"loading in {self._settings.workers} workers: {len(self._ready())} ready, {seconds:.0f} s")
            pause = min(seconds, _LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self._tell_loading, seconds + pause)

    def _start(self, number: int) -> None:
        if self._stopping:
            return
        ends = [worker.end for worker in self._workers.values()]
        # If nobody answers, the version that did so last may be gone.
        version = self._version if self._ready() else None
        process, end = fork(lambda end: self._be(number, end, ends, version))
        worker = _Worker(number, process, end, Channel(end, lambda *call: self._handle(worker, *call)))
        worker.reloads = self._reloads
        worker.task = asyncio.create_task(worker.channel.run())
        self._workers[number] = worker

    def _ready(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.ready]

    def _be(self, number: int, end: socket.socket, others: list[socket.socket], version: str | None) -> None:
        """Be a worker."""
        # Or they would not notice that the first process has ended.
        for other in others:
            other.close()
        self._shares.become(number)
        self._work(Member(end, self._shares, version, self._keys, self._tls))

    async def _handle(self, worker: _Worker, name: str, *arguments: object) -> object:
        """Answer a worker's call."""
        calls: dict[str, Callable[..., object]] = {
            "counted": functools.partial(setattr, worker, "report"),
            "failed": self._fail,
            "write": self._writer.take,
            "reports": functools.partial(self._reports, worker),
            "damaged": functools.partial(self._tell_others, worker, "damage"),
        }
        if name in calls:
            return calls[name](*arguments)
        if name == "reload":
            return await self._reload(worker)
        await self._begin(worker, *map(str, arguments))
        return None

    async def _begin(self, worker: _Worker, version: str, summary: str) -> None:
        """Let a worker answer, from the same version as the others."""
        async with self._lock:
            if not self._ready():
                self._version = version
            elif version != self._version or worker.reloads != self._reloads:
                await worker.channel.ask("prepare", self._version)
                await worker.channel.ask("use")
            worker.ready = True
        self._appoint()
        if not self._announced and len(self._ready()) == self._settings.workers:
            self._announced = True
            STATUS.notice(f"serving {summary}, with {self._settings.workers} workers")

    def _appoint(self) -> None:
        """Have one worker do what only one must."""
        if not any(worker.leads for worker in self._workers.values()):
            for leader in self._ready()[:1]:
                leader.leads = True
                leader.channel.tell("lead")

    async def _reload(self, worker: _Worker) -> Reloaded:
        """Read keys and certificate; have the worker that asks open the version, then the others; use it if all can."""
        # Before the lock: a version that takes long to open must not keep a revoked key valid.
        await self._renew()
        async with self._lock:
            others = [each for each in self._ready() if each is not worker]
            prepared = [worker, *others]
            try:
                reloaded: Reloaded = await worker.channel.ask("prepare", None)
                for other in others:
                    # One after the other, so that most answer as fast as before. One that has ended meanwhile is
                    # replaced by one that opens the version of the others.
                    with suppress(ConnectionError):
                        await other.channel.ask("prepare", reloaded.version)
            except BaseException:
                for each in prepared:
                    each.channel.tell("drop")
                raise
            self._version, self._reloads = reloaded.version, self._reloads + 1
            await asyncio.gather(*(each.channel.ask("use") for each in prepared), return_exceptions=True)
            return reloaded

    async def _renew(self) -> None:
        """Read the keys and the certificate, and have all workers use them, also those that load."""
        try:
            if self._keys:
                self._keys.read_again()
            self._tls = certificate(self._settings)
        finally:
            # The keys are read once for all, and hold even if the certificate is invalid.
            ring = self._keys and self._keys.ring
            asked = [each.channel.ask("renew", ring) for each in self._workers.values()]
            await asyncio.gather(*asked, return_exceptions=True)

    def _reports(self, worker: _Worker) -> list[Report]:
        own = of_workers(self._shares.workers, self._restarts)
        return [own, self._retired, *(each.report for each in self._workers.values() if each is not worker)]

    def _tell_others(self, worker: _Worker, name: str, *arguments: object) -> None:
        for other in self._workers.values():
            if other is not worker:
                other.channel.tell(name, *arguments)

    def _hang_up(self) -> None:
        self._tell_leader("reload")

    def _tell_leader(self, name: str) -> None:
        for leader in [worker for worker in self._workers.values() if worker.leads]:
            leader.channel.tell(name)

    def _stop(self) -> None:
        """End the workers when their requests are answered; the second time, at once."""
        at_once, self._stopping = self._stopping, True
        # Or the system would still accept connections once the last worker has stopped.
        self._listener.close()
        for worker in self._workers.values():
            worker.channel.tell("end", at_once)
        if not self._workers and not self._ending:
            self._ended.set()
        if not at_once:
            patience = self._settings.linger_seconds + self._settings.drain_seconds + _PATIENCE
            asyncio.get_running_loop().call_later(patience, self._kill)

    def _kill(self) -> None:
        for worker in self._workers.values():
            _LOG.error("worker %d (process %d) does not end; killed", worker.number, worker.process)
            with suppress(ProcessLookupError):
                os.kill(worker.process, signal.SIGKILL)

    def _fail(self, error: Exception) -> None:
        if self._version is None and self._failure is None:
            self._failure = error
        elif self._version is not None:
            _LOG.error("a worker cannot start: %s", error if isinstance(error, UdrError) else type(error).__name__)
            self._tell_leader("lost")

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            process, status = os.waitpid(worker.process, os.WNOHANG)
            if process:
                task = asyncio.create_task(self._replace(worker, os.waitstatus_to_exitcode(status)))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
                del self._workers[worker.number]

    async def _replace(self, worker: _Worker, status: int) -> None:
        """Start another worker in place of one that has ended."""
        if worker.task is not None:
            # Read what it has written.
            await worker.task
        self._shares.forget(worker.number)
        self._retired = added([self._retired, lasting(worker.report)])
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        if self._version is None and not self._stopping:
            self._failure = self._failure or WorkerError(f"a worker ended {how} before the index was loaded")
            self._stop()
        if self._stopping:
            if not self._workers:
                self._ended.set()
            return
        quick = self._quick[worker.number] if time.monotonic() - worker.started < _LONG_LIFE else 0
        pause = min(_FIRST_PAUSE * 2**quick, _LONGEST_PAUSE)
        self._quick[worker.number] = min(quick + 1, 20)
        self._restarts += 1
        _LOG.warning("worker %d (process %d) ended %s; replaced in %g s", worker.number, worker.process, how, pause)
        self._appoint()
        asyncio.get_running_loop().call_later(pause, self._start, worker.number)
