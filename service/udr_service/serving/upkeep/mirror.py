"""The mirror: copies the log of writes to an index on a remote store, whose replicas follow it."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable

from udr.errors import ConfigError, reason
from udr.store import LIVE, RemoteIndex
from udr.store.live import LOG
from udr_service.serving.team import Team
from udr_service.serving.versions import IndexSource

_LOOK_SECONDS, _RETRY_SECONDS = 0.2, 5.0

_LOG = logging.getLogger(__name__)


class Mirror:
    """Copies the log whenever it has changed, in a thread of its own.

    Args:
        source: the index directory.
        place: the URL of the index on the store.
        team: the other workers; the one that leads copies for all.
        last_seconds: the most that the last copy may take.
        on_failure: called after each attempt that failed.

    Raises:
        ConfigError: the source is no directory of this machine, or the place no URL of a store.
    """

    def __init__(
        self,
        source: IndexSource,
        place: str,
        team: Team | None = None,
        *,
        last_seconds: float = 3.0,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        remote = RemoteIndex.at(place)
        if remote is None or source.remote is not None:
            raise ConfigError(
                f"--mirror copies from an index directory to a URL such as s3://bucket/index, found {place!r}"
            )
        self._root, self._remote, self._team, self._on_failure = source.index, remote, team, on_failure
        self._path, self._copied, self._last_seconds = source.index / LIVE / LOG, (0, 0), last_seconds
        # A store that does not answer holds up no exit.
        self._thread, self._stopped = threading.Thread(target=self._follow, daemon=True), threading.Event()

    async def run(self) -> None:
        """Copy until cancelled, and then what was written last."""
        if self._team is not None:
            await self._team.leads.wait()
        self._thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(self._finish)

    def copy_last(self) -> None:
        """Copy the log once, in place of ``run``: the worker that leads may have ended before another that wrote."""
        self._thread.start()
        self._finish()

    def _finish(self) -> None:
        self._stopped.set()
        self._thread.join(self._last_seconds)
        if self._thread.is_alive():
            _LOG.error("what was written last does not reach the replicas before this service starts again")

    def _follow(self) -> None:
        told, pause, last = "", 0.0, False
        while not last:
            last = self._stopped.wait(pause)
            try:
                # Before it is copied: what is written meanwhile is copied the next time.
                if (state := self._state()) != self._copied:
                    self._remote.upload_writes(self._root)
                    self._copied = state
                told, pause = "", _LOOK_SECONDS
            except Exception as error:
                self._on_failure()
                if told != (told := reason(error)):
                    _LOG.error("what is written here does not reach the replicas, and is tried again: %s", told)
                pause = _RETRY_SECONDS

    def _state(self) -> tuple[int, int]:
        try:
            state = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return 0, 0
        return state.st_ino, state.st_size
