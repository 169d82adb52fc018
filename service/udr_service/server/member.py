"""A worker as a member of its team: what it asks of the process that started it, and what that one asks of it."""

import asyncio
import atexit
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence

from udr.errors import UdrError
from udr_service.auth import KeyFile
from udr_service.observability import Report
from udr_service.server.channel import Channel, Handler, send_at_once
from udr_service.serving import Reloaded, SharedShares

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""The signals that the first process handles, and those that it starts do not."""

_LOG = logging.getLogger(__name__)


class Member:
    """This worker as a member of its team; see ``udr_service.serving.Team``.

    Args:
        end: this worker's end of the channel to the process that started it.
        shares: what all workers hold together.
        version: the version that the others answer from; None at the start.
        keys: the file of keys, with those that the others have.
        tls: the certificate that the others have.
    """

    def __init__(
        self,
        end: socket.socket,
        shares: SharedShares,
        version: str | None,
        keys: KeyFile | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.shares, self.version, self.leads = shares, version, asyncio.Event()
        self.keys, self.tls = keys, tls
        self._channel = Channel(end, self._handle)
        self._calls: dict[str, Handler] = {}
        self._writes = False

    async def run(self, calls: Mapping[str, Handler]) -> None:
        """Answer the calls of the process that started this one, by name, until it ends."""
        self._calls = {"lead": self._lead, **calls}
        await self._channel.run()

    async def _handle(self, name: str, *arguments: object) -> object:
        return await self._calls[name](*arguments)

    async def _lead(self) -> None:
        self.leads.set()

    async def reload(self) -> Reloaded:
        """See ``Team.reload``."""
        reloaded: Reloaded = await self._channel.ask("reload")
        return reloaded

    async def take_writer_lock(self) -> None:
        """See ``Team.take_writer_lock``."""
        if not self._writes:
            await self._channel.ask("write")
            self._writes = True

    async def reports(self) -> Sequence[Report]:
        """See ``Team.reports``."""
        reports: Sequence[Report] = await self._channel.ask("reports")
        return reports

    def damaged(self, problem: str) -> None:
        """See ``Team.damaged``."""
        self._channel.tell("damaged", problem)

    def report(self, report: Report) -> None:
        """Say what this worker has counted."""
        self._channel.tell("counted", report)

    async def ready(self, version: str, summary: str) -> None:
        """Say that this worker can answer; return when it may."""
        await self._channel.ask("ready", version, summary)


def fork(work: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
    """Do some work in a fork of this process, which may have a running event loop, but only one thread.

    Args:
        work: what to do; its argument is the other end of the channel.

    Returns:
        The number of the process, and this end of the channel.
    """
    end, theirs = socket.socketpair()
    # A signal in between would be handled as this process's, in the other.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    process = os.fork()
    if not process:
        end.close()
        _become(theirs, mask, work)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return process, end


def _become(end: socket.socket, mask: set[int | signal.Signals], work: Callable[[socket.socket], None]) -> None:
    """Do the work and end this process, a fork; nothing returns to the event loop that it was made in."""
    status, last = 1, end.dup()
    try:
        signal.set_wakeup_fd(-1)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL if each == signal.SIGCHLD else signal.SIG_IGN)
        asyncio._set_running_loop(None)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        work(end)
        status = 0
    except UdrError as error:
        send_at_once(last, "failed", error)
    except BaseException:
        _LOG.exception("a worker failed")
    finally:
        # As at the end of any process: telemetry is sent.
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(status)
