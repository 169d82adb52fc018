"""Preparing: keys hold once they are valid; a version takes over once it is open, verified and has answered."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from udr.errors import OverloadedError, VerificationError
from udr.retrieval import RetrievalRequest
from udr_service.auth import KeyFile
from udr_service.errors import ReloadError
from udr_service.observability import Audit, Event, Metrics
from udr_service.serving.team import Reloaded
from udr_service.serving.versions.active_version import ActiveVersion
from udr_service.serving.versions.current import Current
from udr_service.serving.versions.index_source import Source
from udr_service.serving.work import PROBE, Worker

CHECK = RetrievalRequest(input=PROBE, scope="all", k=1)
"""A request that every index can answer."""

Step = Callable[[], object]
"""Reads something again and uses it if it is valid, on any thread."""

_LOG = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a reload has opened and checked, but not yet used.

    Attributes:
        reloaded: the version that will answer, and the one that does.
        version: that version, open; None if it answers already.
    """

    reloaded: Reloaded
    version: ActiveVersion | None


class Preparing:
    """What a ``Reloader`` reads, checks and uses; its attributes are documented there."""

    def __init__(
        self,
        source: Source | None,
        current: Current,
        worker: Worker,
        keys: KeyFile | None,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._source, self._current, self._worker = source, current, worker
        self._keys, self._metrics, self._audit = keys, metrics, audit
        self._lock, self._renewing = asyncio.Lock(), asyncio.Lock()
        self._seen: str | None = None
        self._told = self._digest = ""
        self.steps: list[Step] = []

    def switch(self, version: ActiveVersion) -> None:
        """Answer from this version from now on."""
        self._current.switch(version)
        self._metrics.index_switched(version.version, version.retriever.tasks)

    async def renew(self) -> None:
        """Read the keys again, and then what else the steps read; use what is valid, whatever becomes of the version.

        Raises:
            Exception: something is not valid; what was read before it is used all the same.
        """
        # A lock of its own: a store that does not answer must not keep a revoked key valid.
        async with self._renewing:
            for step in [self._keys.read_again, *self.steps] if self._keys else self.steps:
                await asyncio.to_thread(step)

    @asynccontextmanager
    async def prepared(self, version: str | None = None) -> AsyncIterator[Prepared]:
        """Open a version, by default the published one, and check it; until the block ends, ``use`` can switch to it.

        Raises:
            Exception: it is not valid.
        """
        async with self._lock:
            prepared = await self._prepare(version)
            try:
                yield prepared
            finally:
                if prepared.version and not self._current.is_active(prepared.version):
                    prepared.version.retriever.close()

    def use(self, prepared: Prepared) -> Reloaded:
        """Switch to what was prepared."""
        if prepared.version is not None:
            self.switch(prepared.version)
        return prepared.reloaded

    async def _prepare(self, name: str | None) -> Prepared:
        """Open a version, by default the published one, and have it answer a request."""
        if self._source is None:
            raise ReloadError("this service was started with an open index and cannot reload it")
        wanted, previous = name or await self._published(self._source), self._current.version
        if self._current.damage is None and await self._is_current(wanted):
            return Prepared(Reloaded(wanted, previous, opened=False), None)
        version = await asyncio.to_thread(self._source.load, self._metrics, name)
        try:
            # Else the first requests with filters would wait again for what they waited for already.
            await asyncio.to_thread(version.retriever.read_fields, self._current.fields_read)
            await self._check(version)
        except BaseException:
            version.retriever.close()
            raise
        return Prepared(Reloaded(version.version, previous, opened=True), version)

    async def _is_current(self, version: str, *, settled: bool = False) -> bool:
        """Return whether a version answers already, with the search settings and hybrid weights that it has now.

        If their file is damaged, it keeps those that it has, with a warning: else no key could be revoked meanwhile.

        Args:
            version: its name.
            settled: whether others count only if the last call has found the same: measuring writes several times.
        """
        if version != self._current.version:
            return False
        with self._current.lease() as active:
            opened, before = active.retriever.search_digest, self._digest
            try:
                self._digest = await asyncio.to_thread(active.retriever.stored_digest)
            except VerificationError as error:
                if str(error) != self._told:
                    _LOG.warning("version %s keeps the search settings that it has: %s", version, error)
                self._told, self._digest = str(error), opened
            return self._digest == opened or (settled and self._digest != before)

    async def _published(self, source: Source) -> str:
        version, seen = await asyncio.to_thread(source.current), self._seen
        self._seen = version
        if seen not in (None, version):
            self._audit.record(Event.PUBLISHED, index_version=version, previous=seen)
        return version

    async def _check(self, version: ActiveVersion) -> None:
        """Have a version answer a request, as soon as the queue has room."""
        while True:
            try:
                await self._worker.do(version.retriever, [version.retriever.plan(CHECK)])
                return
            except OverloadedError:
                await asyncio.sleep(_RETRY_SECONDS)
