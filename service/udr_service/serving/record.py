"""The record of a request, which everything that reports it reads."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from starlette.types import Scope

from udr.data import Filter
from udr_service.auth import Allowance, KeyEntry, Pools
from udr_service.serving.clients import Client
from udr_service.serving.work import JobResult

_RECORD = "udr.record"
FREE_BODY = "udr.free_body"
"""In the scope of a request, the function that counts its body no more among those in flight."""


@dataclass(slots=True)
class UpstreamCall:
    """A request to the upstream, and its answer.

    Attributes:
        started: when it was sent, by ``time.perf_counter``.
        status: of its answer; None before that begins.
        first: seconds until it began.
        seconds: until it ended.
        failed: it did not end as it should.
    """

    started: float = field(default_factory=time.perf_counter)
    status: int | None = None
    first: float = 0.0
    seconds: float = 0.0
    failed: bool = False

    def begin(self, status: int) -> None:
        """The answer begins."""
        self.status, self.first = status, time.perf_counter() - self.started

    def cut_off(self) -> bool:
        """The call fails; return whether its answer had begun."""
        self.failed = True
        return self.status is not None


@dataclass(slots=True)
class Record:
    """What is known about a request while it is answered, for its headers, the log and the metrics.

    Attributes:
        request_id: the client's id or a new one.
        started: when it arrived, by ``time.perf_counter``.
        index_version: the version that answers it.
        overlay_position: the number of the last write that the answer knows of.
        entry: the entry of its API key.
        client: who sent it, and what that client may take.
        queue_size: how many texts waited when it arrived.
        batch_size: how many texts were encoded together with its own.
        stages: seconds by stage: ``queue``, ``encode``, ``search``, as far as it went through them.
        tasks: the task of each retrieval; None is a family, or all tasks.
        upstream: what the gateway sent to the upstream for it.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    index_version: str | None = None
    overlay_position: int | None = None
    entry: KeyEntry | None = None
    client: Client = field(default_factory=lambda: Client("this machine", Allowance()))
    queue_size: int | None = None
    batch_size: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    tasks: list[str | None] = field(default_factory=list)
    upstream: UpstreamCall | None = None

    @property
    def key(self) -> str | None:
        """The name of its API key, never the key."""
        return self.entry.name if self.entry else None

    @property
    def pools(self) -> Pools:
        """The tasks that its key is for; without keys, all."""
        return self.entry.pools if self.entry else Pools()

    @property
    def filter(self) -> Filter | None:
        """The filter that its key adds to each request."""
        return self.entry.rows if self.entry else None

    def enter(self, scope: Scope) -> None:
        """Become the record of this request."""
        scope[_RECORD] = self

    def add(self, results: Sequence[JobResult]) -> None:
        """Add the cost of its jobs; they run at the same time, so the longest counts."""
        for result in results:
            batch = result.batch
            self.batch_size = max(batch.size, self.batch_size or 0)
            for stage, seconds in (("queue", result.waited), ("encode", batch.encode), ("search", batch.search)):
                self.stages[stage] = max(seconds, self.stages.get(stage, 0.0))

    def timings(self) -> dict[str, float]:
        """Return the seconds of each stage, and of all so far as ``total``."""
        upstream = {"upstream": self.upstream.first} if self.upstream and self.upstream.status else {}
        return {**self.stages, **upstream, "total": time.perf_counter() - self.started}


def free_body(scope: Scope) -> None:
    """Count the body of a request no more among those in flight: nobody holds it any longer."""
    cast("Callable[[], None]", scope.get(FREE_BODY, lambda: None))()


def record_of(scope: Scope) -> Record:
    """Return the record of a request."""
    return cast("Record", scope[_RECORD])
