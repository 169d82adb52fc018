"""The scrubber: finds out, at low priority, whether the files of the version that answers are still whole.

Vectors are mapped into memory, so a file that is truncated or overwritten in place changes what is searched.
"""

import asyncio
import logging
import time
from contextlib import closing, suppress
from pathlib import Path

from udr.errors import OutdatedError, UdrError, VerificationError
from udr.retrieval import Retriever
from udr.store import LIVE
from udr.store.live import LOG, WriteLog
from udr_service.errors import NotReadyError
from udr_service.serving.team import Team
from udr_service.serving.versions import READ_BYTES, Current, OpenFiles, Reloader

_RETRY_SECONDS = 300.0

_LOG = logging.getLogger(__name__)


class Scrubber:
    """Looks at the files of the version that answers, every few seconds.

    While a file is damaged, requests get an ``IndexDamagedError``. Once the files or the published version change, the
    index is opened again; and so it is if only the published version has writes that were forgotten.
    """

    def __init__(self, current: Current, reloader: Reloader, seconds: float, team: Team | None = None) -> None:
        self._current, self._reloader, self._seconds, self._team = current, reloader, seconds, team
        self._files: OpenFiles | None = None
        self._tried: tuple[object, ...] = ()
        self._next_try = 0.0
        self._unread = 0  # bytes of the log that the next looks let pass

    async def run(self) -> None:
        """Look until cancelled; in a team, only the worker that leads looks at the files, for all."""
        while self._seconds:
            await asyncio.sleep(self._seconds)
            try:
                await self._follow()
                if self._team is None or self._team.leads.is_set():
                    await self._look()
            except Exception:
                _LOG.exception("the files of the index cannot be checked; trying again")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        """Read what was written elsewhere; open the published version if only that one has some of it now."""
        if self._current.damage is not None:
            return
        with suppress(NotReadyError), self._current.lease() as active:
            outdated = await asyncio.to_thread(_outdated, active.retriever)
            if outdated is not None and self._current.is_active(active):
                reloaded = await self._reloader.recover()
                _LOG.warning("version %s answers now: %s", reloaded.version, outdated)

    async def _look(self) -> None:
        if self._current.damage is not None and self._files is not None:
            await self._recover(self._files)
            return
        # A lease keeps the version open meanwhile.
        with suppress(NotReadyError), self._current.lease() as active:
            self._files = active.files
            problem = await asyncio.to_thread(self._files.look)
            if problem is not None:
                problem += "; put the whole file back, or publish another version"
            else:
                problem = await asyncio.to_thread(self._log, active.retriever.root)
            if problem is not None and self._current.is_active(active):
                self._current.damage = problem
                if self._team is not None:
                    self._team.damaged(self._current.damage)
                self._tried, self._next_try = (), 0.0
                _LOG.error("version %s is damaged: %s", active.version, self._current.damage)

    def _log(self, root: Path | None) -> str | None:
        """Read the log of writes again, though not more of it than of other files; return what is damaged, or None.

        What was read before is in memory, but after a restart it would be refused.
        """
        self._unread -= READ_BYTES
        if root is None or self._unread > 0:
            return None
        path = root / LIVE / LOG
        try:
            with suppress(OSError), closing(WriteLog(path.parent)) as log:
                self._unread = path.stat().st_size
                log.check()
        except VerificationError as error:
            return f"{LIVE}/{LOG}: {str(error).removeprefix(f'{path}: ')}"
        return None

    async def _recover(self, files: OpenFiles) -> None:
        """Open the published version, if anything has changed since the last attempt, or after some minutes."""
        states = await asyncio.to_thread(files.states)
        if states == self._tried and time.monotonic() < self._next_try:
            return
        self._tried, self._next_try = states, time.monotonic() + _RETRY_SECONDS
        # While it is still damaged, the reason is already known.
        with suppress(UdrError):
            reloaded = await self._reloader.recover()
            _LOG.warning("version %s is whole and answers", reloaded.version)


def _outdated(retriever: Retriever) -> str | None:
    """Return whether a retriever lacks writes that the published version has, in words; None if it has them all."""
    # What is damaged otherwise, requests tell.
    with suppress(UdrError, OSError):
        try:
            retriever.partitions()
        except OutdatedError as error:
            return str(error)
    return None
