"""The mirror: copies the log of writes to an index on a remote store, whose replicas follow it."""

import asyncio
import logging
import os
from pathlib import Path

from udr.errors import UdrError
from udr.store import LIVE, RemoteIndex
from udr.store.live import LOG
from udr_service.serving.team import Team

_LOOK_SECONDS, _RETRY_SECONDS = 0.2, 5.0

_LOG = logging.getLogger(__name__)


class Mirror:
    """Copies the log whenever it has changed.

    Args:
        root: the index directory.
        remote: the index on the store.
        team: the other workers; the one that leads copies for all.
    """

    def __init__(self, root: Path, remote: RemoteIndex, team: Team | None = None) -> None:
        self._root, self._remote, self._team = root, remote, team
        self._path, self._copied = root / LIVE / LOG, (0, 0)

    async def run(self) -> None:
        """Copy until cancelled."""
        if self._team is not None:
            await self._team.leads.wait()
        told = ""
        while True:
            try:
                # Before it is copied: what is written meanwhile is copied the next time.
                if (state := self._state()) != self._copied:
                    await asyncio.to_thread(self._remote.upload_writes, self._root)
                    self._copied, told = state, ""
            except UdrError as error:
                if told != (told := str(error)):
                    _LOG.error("what is written here does not reach the replicas, and is tried again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)

    def _state(self) -> tuple[int, int]:
        try:
            state = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return 0, 0
        return state.st_ino, state.st_size
