"""The team: what a worker asks of the process that started it, and of the others through it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from udr_service.auth import KeyFile
from udr_service.observability import Report
from udr_service.serving.shares import Shares


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The version that answers now, and the one before; the same if no other is published.

    ``opened`` says whether it was opened now: it is another, or it is searched by other settings or weights.
    """

    version: str
    previous: str | None
    opened: bool


class Others(Protocol):
    """The other processes that answer, as one of them sees them: workers of a service, or replicas on a cluster."""

    @property
    def shares(self) -> Shares:
        """What all hold together."""

    async def take_writer_lock(self) -> None:
        """Have the process that started all take the lock of the writer, for all of them.

        Raises:
            NotWriterError: another service writes.
        """

    async def reports(self) -> Sequence[Report]:
        """Return what the others have counted, those that have ended included."""


class Team(Others, Protocol):
    """The other workers of a service, as one of them sees them.

    Attributes:
        leads: set once this worker does what only one of them must: watching for versions, and the files.
        version: the version that the others answer from; None at the start.
        keys: the file of keys, with those that the others have.
    """

    leads: asyncio.Event
    version: str | None
    keys: KeyFile | None

    async def reload(self) -> Reloaded:
        """Have all workers use the keys in their file, and switch to the published version if all can open it.

        Raises:
            Exception: what a worker raised.
        """

    def damaged(self, problem: str) -> None:
        """Tell the others that a file of the version that answers is damaged."""
