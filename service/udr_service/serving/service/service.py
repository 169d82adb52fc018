"""The service: its parts, and how a request begins."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.requests import Request

from udr.errors import ArtifactError, UdrError, system_error
from udr.store.usage import Usage
from udr_service.errors import VersionMismatchError
from udr_service.observability import Metrics
from udr_service.serving.record import record_of
from udr_service.serving.room import Room
from udr_service.serving.service.answering import AnswerContext
from udr_service.serving.service.context import RequestContext
from udr_service.serving.service.limits import timeout_of
from udr_service.serving.team import Others
from udr_service.serving.versions import Current, Reloader
from udr_service.serving.work import FieldReader, Preparer, Worker
from udr_service.settings import Settings

INDEX_VERSION = "X-Udr-Index-Version"
"""In an answer, the header with the version that answered; in a request, a precondition."""

OVERLAY_POSITION = "X-Udr-Overlay-Position"
"""In an answer, the header with the number of the last write that it knows of."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of the service."""

    settings: Settings
    current: Current
    worker: Worker
    preparer: Preparer
    field_reader: FieldReader
    room: Room
    reloader: Reloader
    metrics: Metrics
    usage: Usage
    log_reader: ThreadPoolExecutor
    team: Others | None = None

    @property
    def workers(self) -> int:
        """How many processes answer."""
        return 1 if self.team is None else self.team.shares.workers

    async def gauge(self) -> None:
        """Set the metrics of what waits, and of what lies on top of the version that answers."""
        self.metrics.queue_changed(self.worker.waiting)
        # What cannot be read, requests tell.
        with suppress(UdrError, OSError), self.current.lease() as active:
            of = active.retriever
            rows, size = await asyncio.to_thread(lambda: (of.overlay_rows, of.overlay_bytes))
            self.metrics.overlay_changed(rows, size)

    @asynccontextmanager
    async def context(self, request: Request) -> AsyncIterator[RequestContext]:
        """Answer a request from one version, from beginning to end.

        Raises:
            NotReadyError: no version is open yet.
            IndexDamagedError: a file cannot be read.
            InvalidInputError: the timeout header is not a number of seconds.
            DeadlineError: the deadline has passed before others' writes were read.
            VersionMismatchError: the request asks for another version.
        """
        record = record_of(request.scope)
        with self.current.answering() as active:
            retriever = active.retriever
            limit = self.settings.timeout_seconds
            parts = timeout_of(request, limit), limit, retriever.tasks, self.room, self.preparer
            try:
                partitions = retriever.at_hand()
                if partitions is None:
                    # Others' writes are read in a thread, since there may be many; in one that nothing else can hold.
                    reading = asyncio.get_running_loop().run_in_executor(self.log_reader, retriever.partitions)
                    async with AnswerContext(record, *parts).deadline():
                        partitions = await reading
            except OSError as error:
                raise ArtifactError(system_error(error)) from error
            record.index_version, record.overlay_position = active.version, partitions.view.position
            expected = request.headers.get(INDEX_VERSION)
            if expected not in (None, active.version):
                raise VersionMismatchError(
                    f"the header {INDEX_VERSION} asks for version {expected[:40]!r}, but {active.version!r} answers; "
                    "send the request without the header, or fetch again what you keep of the other version"
                )
            yield RequestContext(record, *parts, self, active=active, partitions=partitions)
