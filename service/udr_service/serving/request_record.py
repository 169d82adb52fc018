"""What is known of a request while it is answered; told to its client, to the log and to the metrics."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from starlette.types import Scope

from udr_service.serving.jobs import JobResult

_KEY = "udr.record"


@dataclass(slots=True)
class Record:
    """A request, as far as it has come.

    Attributes:
        request_id: its name, the client's or ours.
        started: when it came, by ``time.perf_counter``.
        index_version: the version that answers it, once that is settled.
        key: the name of the API key that it was sent with.
        queue_size: how much waited when it came.
        batch_size: how much was encoded with it, itself included.
        stages: seconds by stage: ``queue``, ``encode``, ``search``, as far as it went through them.
        tasks: the task of each answer that it asked for; None for a family, or everything.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    index_version: str | None = None
    key: str | None = None
    queue_size: int | None = None
    batch_size: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    tasks: list[str | None] = field(default_factory=list)

    def enter(self, scope: Scope) -> None:
        """Become the record of this request."""
        scope[_KEY] = self

    def add(self, done: Sequence[JobResult]) -> None:
        """Add what its work cost; of several pieces, done at the same time, the longest."""
        for one in done:
            self.batch_size = max(one.stages.size, self.batch_size or 0)
            for stage, seconds in (("queue", one.waited), ("encode", one.stages.encode), ("search", one.stages.search)):
                self.stages[stage] = max(seconds, self.stages.get(stage, 0.0))

    def timed(self) -> Iterator[tuple[str, float]]:
        """Yield the seconds of each stage, and of all so far as ``total``."""
        yield from self.stages.items()
        yield "total", time.perf_counter() - self.started


def record_of(scope: Scope) -> Record:
    """Return the record of a request."""
    return cast("Record", scope[_KEY])
