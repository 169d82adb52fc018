"""Preparing: a new version takes over once it is open, verified and has answered a request."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from udr.errors import OverloadedError, VerificationError
from udr.retrieval import RetrievalRequest
from udr_service.auth import KeyFile, KeyRing
from udr_service.errors import ReloadError
from udr_service.observability import Audit, Event, Metrics
from udr_service.serving.team import Reloaded
from udr_service.serving.versions.active_version import ActiveVersion
from udr_service.serving.versions.current import Current
from udr_service.serving.versions.index_source import Source
from udr_service.serving.work import PROBE, Worker

CHECK = RetrievalRequest(input=PROBE, scope="all", k=1)
"""A request that every index can answer."""

Commit = Callable[[], object]
Step = Callable[[], Commit]
"""Reads something again and checks it, on any thread; what it returns, which must not fail, makes it effective."""

_LOG = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a reload has read and checked, but not yet used.

    Attributes:
        reloaded: the version that will answer, and the one that does.
        version: that version, open; None if it answers already.
        ring: the keys.
        commits: what makes the rest effective.
    """

    reloaded: Reloaded
    version: ActiveVersion | None
    ring: KeyRing | None
    commits: list[Commit]


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
        self._lock = asyncio.Lock()
        self._seen: str | None = None
        self._told = self._digest = ""
        self.steps: list[Step] = []

    def switch(self, version: ActiveVersion) -> None:
        """Answer from this version from now on."""
        self._current.switch(version)
        self._metrics.index_switched(version.version, version.retriever.tasks)

    @asynccontextmanager
    async def prepared(self, version: str | None = None, ring: KeyRing | None = None) -> AsyncIterator[Prepared]:
        """Read everything again and check it; until the block ends, ``use`` can make it effective.

        Args:
            version: the version to open; None is the published one.
            ring: the keys; None reads them.

        Raises:
            Exception: something is not valid.
        """
        async with self._lock:
            if ring is None and self._keys:
                ring = await asyncio.to_thread(self._keys.read_again)
            commits = [await asyncio.to_thread(step) for step in self.steps]
            prepared = replace(await self._prepare(version), ring=ring, commits=commits)
            try:
                yield prepared
            finally:
                if prepared.version and not self._current.is_active(prepared.version):
                    prepared.version.retriever.close()

    def use(self, prepared: Prepared) -> Reloaded:
        """Make what was prepared effective, at once: no request meets the new version with the old keys."""
        if prepared.version is not None:
            self.switch(prepared.version)
        for commit in prepared.commits:
            commit()
        if self._keys and prepared.ring:
            self._keys.ring = prepared.ring
        return prepared.reloaded

    async def _prepare(self, name: str | None) -> Prepared:
        """Open a version, by default the published one, and have it answer a request."""
        if self._source is None:
            raise ReloadError("this service was started with an open index and cannot reload it")
        wanted, previous = name or await self._published(self._source), self._current.version
        if self._current.damage is None and await self._is_current(wanted):
            return Prepared(Reloaded(wanted, previous, opened=False), None, None, [])
        version = await asyncio.to_thread(self._source.load, self._metrics, name)
        try:
            # Else the first requests with filters would wait again for what they waited for already.
            await asyncio.to_thread(version.retriever.read_fields, self._current.fields_read)
            await self._check(version)
        except BaseException:
            version.retriever.close()
            raise
        return Prepared(Reloaded(version.version, previous, opened=True), version, None, [])

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
