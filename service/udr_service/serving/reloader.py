"""Reloading: a new version takes over once it is open, verified and has answered a request."""

import asyncio
import logging
from dataclasses import dataclass

from udr.errors import OverloadedError, UdrError
from udr.retrieval import RetrievalRequest
from udr_service.auth import KeyFile
from udr_service.errors import ReloadError
from udr_service.observability import Metrics, Reload
from udr_service.serving.active_version import ActiveVersion, Current, Source
from udr_service.serving.embedding_cache import PROBE
from udr_service.serving.worker import Worker

CHECK = RetrievalRequest(input=PROBE, scope="all", k=1)
"""A request that every index can answer."""

_RETRY_SECONDS = 0.2

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The version that answers now, and the one before; the same if no other is published."""

    version: str
    previous: str | None


class Reloader:
    """Switches to the published version, one reload at a time, and reads the keys again.

    Without a ``source`` there is nothing to reload. ``failure`` is the error that kept the first version from loading.
    """

    def __init__(
        self, source: Source | None, current: Current, worker: Worker, keys: KeyFile | None, metrics: Metrics
    ) -> None:
        self._source, self._current, self._worker = source, current, worker
        self._keys, self._metrics = keys, metrics
        self._lock = asyncio.Lock()
        self._loads: set[asyncio.Future[Reloaded]] = set()
        self.failure: Exception | None = None

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
            await self._watch(self._source, watch_seconds)

    async def load(self) -> Reloaded:
        """Open the published version, and switch to it once it has answered a request.

        Raises:
            UdrError: the version is damaged or cannot be opened.
        """
        if self._source is None:
            raise ReloadError("this service was started with an open index and cannot reload it")
        # Shielded: if the caller disconnects, the load finishes, and no second one starts beside it.
        load = asyncio.ensure_future(self._load(self._source))
        self._loads.add(load)
        load.add_done_callback(self._loaded)
        return await asyncio.shield(load)

    def _loaded(self, load: "asyncio.Future[Reloaded]") -> None:
        self._loads.discard(load)
        if not load.cancelled():
            # Retrieved, or asyncio would log the error of a load that nobody awaits any more.
            load.exception()

    async def _load(self, source: Source) -> Reloaded:
        async with self._lock:
            previous = self._current.version
            if previous is not None and await asyncio.to_thread(source.current) == previous:
                return Reloaded(previous, previous)
            version = await asyncio.to_thread(source.load, self._metrics)
            try:
                await self._check(version)
            except BaseException:
                version.retriever.close()
                raise
            self.switch(version)
            return Reloaded(version.version, previous)

    async def _check(self, version: ActiveVersion) -> None:
        """Have a version answer a request, as soon as the queue has room."""
        while True:
            try:
                await self._worker.do(version.retriever, [version.retriever.plan(CHECK)])
                return
            except OverloadedError:
                await asyncio.sleep(_RETRY_SECONDS)

    async def reload(self) -> Reloaded:
        """Read the keys again, then load the published version.

        Raises:
            ReloadError: either failed; the previous keys or version stay active.
        """
        try:
            if self._keys is not None:
                await asyncio.to_thread(self._keys.reload)
            reloaded = await self.load()
        except ReloadError:
            raise
        except Exception as error:
            self._metrics.reloaded(Reload.REFUSED)
            _LOG.exception("reload refused")
            # Only our own errors are safe to show.
            why = (
                str(error)
                if isinstance(error, UdrError)
                else "the published version does not answer; see the service's log"
            )
            raise ReloadError(f"{why}; version {self._current.version} still answers") from error
        switched = reloaded.version != reloaded.previous
        self._metrics.reloaded(Reload.SWITCHED if switched else Reload.UNCHANGED)
        return reloaded

    def switch(self, version: ActiveVersion) -> None:
        """Answer from this version from now on."""
        self._current.switch(version)
        self._metrics.index_switched(version.version, version.retriever.tasks)

    async def _watch(self, source: Source, seconds: float) -> None:
        tried = self._current.version
        while True:
            await asyncio.sleep(seconds)
            try:
                published = await asyncio.to_thread(source.current)
                # A version that fails is tried once.
                if published not in (tried, self._current.version):
                    tried = published
                    await self.reload()
            except UdrError as error:
                _LOG.warning("watching the index: %s", error)
