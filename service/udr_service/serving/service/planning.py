"""How a request is planned: at once, or in a thread if that would hold the event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from udr.data import Filter
from udr.errors import InvalidInputError, RequestError, UdrError
from udr.retrieval import Partitions, Plan, RetrievalRequest, Stopped, never
from udr_service.errors import ForbiddenError
from udr_service.serving.service.answering import AnswerContext
from udr_service.serving.service.limits import within_limits
from udr_service.serving.versions import ActiveVersion

# It makes contexts.
if TYPE_CHECKING:
    from udr_service.serving.service.service import Service

_INLINE_CHARACTERS, _INLINE_REQUESTS = 8192, 4
"""What is planned on the event loop; handing so little to a thread would take longer."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PlanningContext(AnswerContext):
    """One request while it is planned; see ``RequestContext``."""

    service: "Service"
    active: ActiveVersion
    partitions: Partitions

    async def share(self, made: "asyncio.Future[_T]") -> _T:
        """Return what is made for others, too, before the deadline; it goes on when this request ends.

        Raises:
            DeadlineError: the deadline has passed.
        """
        async with self.deadline():
            return await asyncio.shield(made)

    async def plans(self, requests: Sequence[RetrievalRequest]) -> list[Plan | UdrError]:
        """Return the plans; in a thread if planning would hold the event loop."""
        characters = sum(map(self.active.retriever.planning_characters, requests))
        # A filter reads fields of all rows, at least the first time.
        filtered = self.record.filter is not None or any(request.filter is not None for request in requests)
        if characters <= _INLINE_CHARACTERS and len(requests) <= _INLINE_REQUESTS and not filtered:
            return [self._plan(request) for request in requests]

        def plan(stopped: Stopped) -> list[Plan | UdrError]:
            return [self._plan(request, stopped) for request in requests]

        if not filtered:
            return await self.prepare(plan)
        found = await self.prepare(lambda stopped: self._unread(requests) or plan(stopped))
        if isinstance(found, list):
            return found
        await self._read(found)
        return await self.prepare(plan)

    def _unread(self, requests: Sequence[RetrievalRequest]) -> Mapping[str, frozenset[str]]:
        """Return which fields must be read before these requests can be planned, by task."""
        unread: dict[str, frozenset[str]] = {}
        retriever = self.active.retriever
        for request in requests:
            filters = [self.record.filter]
            # The plan tells what is wrong with a filter.
            with suppress(InvalidInputError):
                filters.append(None if request.filter is None else Filter.of(request.filter))
            for wanted in filters:
                if wanted is not None:
                    for task, keys in retriever.unread_fields(wanted, retriever.searched(request)).items():
                        unread[task] = unread.get(task, frozenset()) | keys
        return unread

    async def read_fields(self, task: str, wanted: Filter | None) -> None:
        """Return once the fields of a task are read that a filter and that of the request's key name."""
        for each in (wanted, self.record.filter):
            if each is not None:
                await self._read(self.active.retriever.unread_fields(each, [task]))

    async def _read(self, fields: Mapping[str, frozenset[str]]) -> None:
        if fields:
            async with self.deadline():
                await self.service.field_reader.read(self.active.retriever, fields)

    def _plan(self, request: RetrievalRequest, stopped: Stopped = never) -> Plan | UdrError:
        try:
            request = within_limits(request, self.service.settings)
            self.require(request.task, request.family)
            own = self.record.filter
            return self.active.retriever.plan(request, stopped=stopped, partitions=self.partitions, within=own)
        except (RequestError, ForbiddenError) as error:
            return error
