"""Reloading: when it happens, one at a time, and what is logged of it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine

from udr.errors import OutdatedError, UdrError
from udr.types import Json
from udr_service.auth import KeyFile, KeyRing, changes
from udr_service.errors import ReloadError
from udr_service.observability import Audit, Event, Metrics, Reload
from udr_service.serving.team import Reloaded, Team
from udr_service.serving.versions.current import Current
from udr_service.serving.versions.index_source import Source
from udr_service.serving.versions.preparing import Preparing
from udr_service.serving.work import Worker

# The longest pause before a version that was refused is tried again.
_LONGEST_PAUSE = 60.0
# How many names of keys a line of the audit log has.
_MOST_NAMES = 20

_LOG = logging.getLogger(__name__)


def record_changes(audit: Audit, before: KeyRing, after: KeyRing, by: str, client: str | None = None) -> None:
    """Log which keys have changed, if any."""
    if changed := changes(before, after):
        named: dict[str, Json] = {change: [*names[:_MOST_NAMES]] for change, names in changed.items()}
        audit.record(Event.KEYS, client, by=by, **named, number=sum(map(len, changed.values())))


class Reloader(Preparing):
    """Uses the keys in their file as soon as they are valid, and switches to the published version once it answers.

    Without a ``source`` there is no version to reload.

    With a ``team``, all its workers switch together, or none.

    Attributes:
        steps: what else a reload reads again; append to it before the service starts.
        failure: the error that kept the first version from loading.
        tell: has services elsewhere reload, too, once this one has; raises a ``ReloadError`` if one does not.
    """

    def __init__(
        self,
        source: Source | None,
        current: Current,
        worker: Worker,
        keys: KeyFile | None,
        metrics: Metrics,
        audit: Audit,
        team: Team | None = None,
    ) -> None:
        super().__init__(source, current, worker, keys, metrics, audit)
        self._team = team
        self._running: set[asyncio.Future[Reloaded]] = set()
        self.failure: Exception | None = None
        self.tell: Callable[[], Awaitable[None]] | None = None

    async def run(self, watch_seconds: float) -> None:
        """Load the first version, keeping an error as ``failure``; then watch for others if ``watch_seconds`` > 0."""
        if self._source is None:
            return
        try:
            await self.load()
        except Exception as error:
            self.failure = error
            return
        if watch_seconds:
            if self._team is not None:
                await self._team.leads.wait()
            await self._watch(self._source, watch_seconds)

    async def load(self) -> Reloaded:
        """Open the published version, and switch to it once it has answered a request.

        Raises:
            UdrError: the version is damaged or cannot be opened.
        """
        return await self._to_the_end(self._load_first())

    async def recover(self) -> Reloaded:
        """Open the published version again, since its files were damaged; raises as ``load``."""
        return await (self.load() if self._team is None else self._team.reload())

    async def reload(self, by: str = "SIGHUP", client: str | None = None) -> Reloaded:
        """Read the keys again and use them, then load the published version.

        Args:
            by: who asks for it, for the audit log.
            client: the address from which.

        Raises:
            ReloadError: something failed; the previous version stays active, and the previous keys if theirs did.
        """
        try:
            return await self.follow(by, client)
        finally:
            # Also if it failed: the keys are to be revoked everywhere.
            if self.tell is not None:
                await self.tell()

    async def follow(self, by: str, client: str | None = None) -> Reloaded:
        """Reload as others have told, or tell; raises as ``reload``."""
        return await self._to_the_end(self._reload(by, client))

    async def _to_the_end(self, load: Coroutine[None, None, Reloaded]) -> Reloaded:
        # Shielded: if the caller disconnects, the load finishes, and no second one starts beside it.
        running = asyncio.ensure_future(load)
        self._running.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, load: "asyncio.Future[Reloaded]") -> None:
        self._running.discard(load)
        if not load.cancelled():
            # Retrieved, or asyncio would log the error of a load that nobody awaits any more.
            load.exception()

    async def _load_first(self) -> Reloaded:
        try:
            async with self._lock:
                return self.use(await self._prepare(None if self._team is None else self._team.version))
        except OutdatedError:
            if self._team is None:
                raise
            # The others still have in memory what only the published version has now.
            return await self._team.reload()

    async def _reload(self, by: str, client: str | None) -> Reloaded:
        # A refusal is logged here, and not where it is raised: the caller may have disconnected.
        before = self._keys and self._keys.ring
        try:
            return await self._load_all(by, client)
        except Exception as error:
            why = self._refused(error, by, client)
            read = self._keys is not None and self._keys.ring is not before
            keys = ", and the keys are those that their file has now" if read else ""
            raise ReloadError(f"{why}; version {self._current.version} still answers{keys}") from error

    def _refused(self, error: Exception, by: str, client: str | None = None) -> str:
        """Log that a reload was refused; return why, as others than the service's owner may see it."""
        _LOG.error("reload refused", exc_info=error)
        known = isinstance(error, UdrError)
        why = str(error) if known else "the published version does not answer; see the service's log"
        self._audit.record(Event.RELOAD_REFUSED, client, by=by, index_version=self._current.version, why=why)
        return why

    async def _load_all(self, by: str, client: str | None = None) -> Reloaded:
        before = self._keys.ring if self._keys else None
        try:
            if self._team is None:
                await self.renew()
                async with self.prepared() as prepared:
                    reloaded = self.use(prepared)
            else:
                reloaded = await self._team.reload()
        except Exception:
            self._metrics.reloaded(Reload.REFUSED)
            raise
        finally:
            if self._keys and before:
                record_changes(self._audit, before, self._keys.ring, by, client)
        self._metrics.reloaded(Reload.SWITCHED if reloaded.opened else Reload.UNCHANGED)
        with self._current.lease() as active:
            details = {"previous": reloaded.previous, "search_digest": active.retriever.search_digest}
        self._audit.record(Event.RELOADED, client, by=by, index_version=reloaded.version, **details)
        return reloaded

    async def _watch(self, source: Source, seconds: float) -> None:
        """Reload whenever what is published changes; try what was refused again, in pauses that double."""
        refused, told, pause, again = "", "", seconds, 0.0
        while True:
            await asyncio.sleep(seconds)
            published = ""
            try:
                published = await self._published(source)
                if published == refused and time.monotonic() < again:
                    continue
                if not await self._is_current(published, settled=True):
                    await self._to_the_end(self._load_all("watch"))
                refused = told = ""
            except Exception as error:
                pause = min(2 * pause, _LONGEST_PAUSE) if published == refused else seconds
                refused, again = published, time.monotonic() + pause
                if told != (told := f"{type(error).__name__}: {error}"):
                    self._refused(error, "watch")
