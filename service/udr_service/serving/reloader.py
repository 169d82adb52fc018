"""Reloading: another version takes over once it is open, verified and has answered; till then, the one before does."""

import asyncio
import logging
from dataclasses import dataclass

from udr.errors import OverloadedError, UdrError
from udr.retrieval import RetrievalRequest
from udr_service.auth import KeyFile
from udr_service.errors import ReloadError
from udr_service.observability import Metrics, Reload
from udr_service.serving.active_version import ActiveVersion, Current
from udr_service.serving.version_loader import Source
from udr_service.serving.worker import Worker

CHECK = RetrievalRequest(input="Is anybody there?", scope="all", k=1)
"""A request that every index can answer."""

_AGAIN_SECONDS = 0.2

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload came to.

    Attributes:
        version: the version that answers now.
        previous: the one that answered before; the same where no other is published.
    """

    version: str
    previous: str | None


class Reloader:
    """Switches to the version that is published. One at a time.

    Args:
        source: where versions come from; None where there is only the one that is served.
        current: what is switched.
        worker: has a new version answer before it is switched to, as it will when it serves.
        keys: read again with every reload; None where there are none.
        metrics: hear of it.

    Attributes:
        failure: why the first version could not be loaded; None where it could, or is still being loaded.
    """

    def __init__(
        self, source: Source | None, current: Current, worker: Worker, keys: KeyFile | None, metrics: Metrics
    ) -> None:
        self._source, self._current, self._worker = source, current, worker
        self._keys, self._metrics = keys, metrics
        self._alone = asyncio.Lock()
        self._loading: set[asyncio.Future[Reloaded]] = set()
        self.failure: Exception | None = None

    async def start(self) -> None:
        """Load the first version; what keeps it from being loaded is kept as ``failure``."""
        try:
            await self.load()
        except Exception as error:
            self.failure = error

    def raise_failure(self) -> None:
        """Raise what kept the first version from being loaded."""
        if self.failure is not None:
            raise self.failure

    async def load(self) -> Reloaded:
        """Open the version that is published, and switch to it when it has answered.

        Raises:
            UdrError: it cannot be opened, or is damaged.
        """
        if self._source is None:
            raise ReloadError("this service was given an open index; there is nothing to reload it from")
        # Whoever asked may hang up; what loads goes on in its thread, and a second one must not load beside it.
        loading = asyncio.ensure_future(self._load(self._source))
        self._loading.add(loading)
        loading.add_done_callback(self._loaded)
        return await asyncio.shield(loading)

    def _loaded(self, loading: "asyncio.Future[Reloaded]") -> None:
        self._loading.discard(loading)
        if not loading.cancelled():
            # Raised where it is waited for; where nobody does any longer, asyncio would complain.
            loading.exception()

    async def _load(self, source: Source) -> Reloaded:
        async with self._alone:
            previous = self._current.version
            if previous is not None and await asyncio.to_thread(source.current) == previous:
                return Reloaded(previous, previous)
            served = await asyncio.to_thread(source.load)
            try:
                await self._check(served)
            except BaseException:
                served.retriever.close()
                raise
            self.switch(served)
            return Reloaded(served.version, previous)

    async def _check(self, served: ActiveVersion) -> None:
        """Have a version answer, as soon as the queue has room: what took so long to load is not given up for that."""
        while True:
            try:
                await self._worker.do(served.retriever, [served.retriever.plan(CHECK)])
                return
            except OverloadedError:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def reload(self) -> Reloaded:
        """Read the keys again, then do as ``load``.

        Raises:
            ReloadError: one of them cannot be taken; what was there before is in force.
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
            # Of what is not ours to tell, the log has the rest.
            why = str(error) if isinstance(error, UdrError) else "the published version does not answer; see the log"
            raise ReloadError(f"{why}; version {self._current.version} still answers") from error
        switched = reloaded.version != reloaded.previous
        self._metrics.reloaded(Reload.SWITCHED if switched else Reload.UNCHANGED)
        return reloaded

    def switch(self, served: ActiveVersion) -> None:
        """Have a version answer from now on."""
        self._current.switch(served)
        self._metrics.index_switched(served.version, served.retriever.tasks)

    async def watch(self, seconds: float) -> None:
        """Reload whenever another version is published; one that cannot be served is tried once.

        Args:
            seconds: how often to look.
        """
        assert self._source is not None
        tried = self._current.version
        while True:
            await asyncio.sleep(seconds)
            try:
                published = await asyncio.to_thread(self._source.current)
                if published not in (tried, self._current.version):
                    tried = published
                    await self.reload()
            except UdrError as error:
                _LOG.warning("watching the index: %s", error)
