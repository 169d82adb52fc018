"""The compactor: makes a new version of the index when enough was written on top of the one that answers.

The work is done by ``udr index compact`` in a process of its own, so that it neither holds the event loop nor stays in
this process's memory, and at the lowest priority. The lock of the index keeps it from running twice, beside a build or
beside a publication; requests see one version or the other.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from udr.errors import ArtifactError, NotWriterError, UdrError, reason
from udr.files import IN_USE
from udr_service.errors import NotReadyError, ReloadError
from udr_service.serving.team import Team
from udr_service.serving.versions import Current, IndexSource, Reloader

_LONGEST_PAUSE = 3600.0
_LOWEST = 19
_COMMAND = (sys.executable, "-P", "-c", "import sys; from udr.cli import main; sys.exit(main())")

_LOG = logging.getLogger(__name__)


class Compactor:
    """Compacts the index once ``compact_rows`` of the settings were put or deleted since the version was built.

    It logs a failure once, and tries again after pauses that double, up to an hour. While another command holds the
    index, it tries again after the first pause each time.

    Args:
        source: the index.
        current: the version that answers.
        reloader: switches to the new version.
        team: the other workers; the one that leads compacts for all.
        look_seconds: how often to look.
        pause_seconds: the first pause after a failure, and while another command is at work.
        command: what runs ``udr``.
        on_failure: called after each attempt that failed.
    """

    def __init__(
        self,
        source: IndexSource,
        current: Current,
        reloader: Reloader,
        team: Team | None = None,
        *,
        look_seconds: float = 1.0,
        pause_seconds: float = 60.0,
        command: Sequence[str] = _COMMAND,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        self._source, self._current, self._reloader, self._team = source, current, reloader, team
        self._limit = source.settings.compact_rows
        self._look_seconds, self._pause_seconds = look_seconds, pause_seconds
        self._command, self._made, self._enough, self._on_failure = command, "", 0, on_failure

    async def run(self) -> None:
        """Look until cancelled, which ends a compaction that is running; it can be killed at any moment."""
        if not self._limit:
            return
        if self._team is not None:
            await self._team.leads.wait()
        pause, told = 0.0, ""
        while True:
            await asyncio.sleep(self._look_seconds + pause)
            try:
                pause, told = 0.0 if await self._look() else self._pause_seconds, ""
            except Exception as error:
                self._on_failure()
                pause = min(2 * pause or self._pause_seconds, _LONGEST_PAUSE)
                # The reloader tells its own.
                if not isinstance(error, ReloadError) and told != (told := reason(error)):
                    _LOG.error("the index was not compacted, which will be tried again: %s", told)

    async def _look(self) -> bool:
        """Compact if it is time; return whether no other command kept it from doing so."""
        version, position = await self._due()
        if not version:
            return True
        published = await asyncio.to_thread(self._source.current)
        if published == version:
            done = await self._compact()
            if done is None:
                return False
            if done["version"] == done["previous"]:
                # The writes say what the version says anyway, so there is nothing to do until there are more.
                self._enough = position + self._limit
                return True
            self._made = done["version"]
            _LOG.warning("compacted the index into version %s", self._made)
            if done["previous"] != version:
                # Another one was published meanwhile, and who did so says when it answers.
                return True
        elif published != self._made:
            return True
        await self._reloader.reload("compaction")
        await self._shorten()
        return True

    async def _due(self) -> tuple[str, int]:
        """Return the version that answers and the position of its overlay; no version if that is still small."""
        with suppress(NotReadyError), self._current.lease() as active:
            retriever = active.retriever
            rows, position = await asyncio.to_thread(lambda: (retriever.overlay_rows, retriever.overlay_position))
            if rows >= self._limit and position >= self._enough:
                return active.version, position
        return "", 0

    async def _compact(self) -> dict[str, Any] | None:
        """Run the command; return what it says, or None if another command is at work in the index."""
        options = ["--allow-hub"] if self._source.settings.allow_hub else []
        process = await asyncio.create_subprocess_exec(
            *(*self._command, "index", "compact", str(self._source.index), "--json", *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST)
            out, errors = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            raise
        if process.returncode == 0:
            done: dict[str, Any] = json.loads(out)
            return done
        lines = errors.decode(errors="replace").strip().splitlines()
        why = lines[-1].removeprefix("udr: error: ") if lines else f"exit status {process.returncode}"
        # Another service or a person is at work in the index.
        if IN_USE in why:
            return None
        raise ArtifactError(why)

    async def _shorten(self) -> None:
        """Rewrite the log without what later writes undid, which the command cannot while this service writes."""
        try:
            if self._team is not None:
                await self._team.take_writer_lock()
            with self._current.lease() as active:
                await asyncio.to_thread(active.retriever.shorten_log)
        except NotWriterError:
            # The service that writes will do so.
            return
        except UdrError as error:
            _LOG.warning("the log of writes was not shortened: %s", error)
