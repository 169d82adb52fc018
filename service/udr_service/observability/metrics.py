"""Metrics for Prometheus: what the service counts and times. No label holds anything that a client sent."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from udr_service.observability.reports import Added, Report, report

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_SIZES = tuple(2**power for power in range(10))
BATCH_TOKENS = tuple(2**power for power in range(4, 17))

OTHER = "other"
"""The label of routes and tasks without their own."""

MOST_TASKS = 100
"""How many tasks have their own label."""


class Stage(StrEnum):
    """A part of the time that a request takes."""

    QUEUE = "queue"
    ENCODE = "encode"
    SEARCH = "search"
    UPSTREAM = "upstream"
    SERIALISE = "serialise"
    TOTAL = "total"


class Reload(StrEnum):
    """How a reload ended."""

    SWITCHED = "switched"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why a request was not answered."""

    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DISCONNECTED = "disconnected"
    KEYS = "keys"
    BUSY = "busy"
    CONNECTION = "connection"
    UPSTREAM = "upstream"
    STORAGE = "storage"


class Upkeep(StrEnum):
    """What a service does for its index beside answering."""

    COMPACTION = "compaction"
    MIRROR = "mirror"
    USAGE = "usage"


class Metrics:
    """The metrics of one service, in their own registry. Thread-safe.

    Args:
        routes: the served path templates, such as ``/v1/tasks/{task}``; other paths count as ``other``.

    Attributes:
        labels: of every series, to tell processes apart whose metrics are shown together, not added up.
    """

    def __init__(self, routes: Iterable[str]) -> None:
        registry = CollectorRegistry()
        self.labels: Mapping[str, str] = {}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._registry, self._routes = registry, frozenset(routes)
        stages = Histogram(
            "udr_stage_seconds", "What the stages of requests took.", ["stage"], buckets=SECONDS, registry=registry
        )
        # Made up front: a series that begins at 0 shows its first event.
        self._stages = {stage: stages.labels(stage) for stage in Stage}
        self._queue = Gauge("udr_queue_length", "Texts that wait to be encoded.", registry=registry)
        self._connections = Gauge("udr_connections", "Open connections.", registry=registry)
        self._batch_sizes = Histogram(
            "udr_batch_size", "Texts that were encoded at once.", buckets=BATCH_SIZES, registry=registry
        )
        self._batch_tokens = Histogram(
            "udr_batch_tokens", "Tokens that were encoded at once.", buckets=BATCH_TOKENS, registry=registry
        )
        self._requests = Counter(
            "udr_requests", "Requests that were answered, problems included.", ["route", "status"], registry=registry
        )
        lookups = Counter(
            "udr_query_cache",
            "Texts of queries whose vector was known (hit), being computed for another (duplicate), or neither (miss).",
            ["result"],
            registry=registry,
        )
        self._lookups = {result: lookups.labels(result) for result in ("hit", "miss", "duplicate")}
        self._tasks = Counter("udr_task_answers", "Answers from a task's pool.", ["task"], registry=registry)
        self._other_task = self._tasks.labels(OTHER)
        self._served_tasks: Mapping[str, Counter] = {}
        self._index = Gauge("udr_index_info", "The index that answers: always 1.", ["version"], registry=registry)
        self._overlay_rows = Gauge(
            "udr_overlay_rows", "Rows put or deleted since the version was built.", registry=registry
        )
        self._overlay_bytes = Gauge("udr_overlay_bytes", "Bytes of the log of what was written.", registry=registry)
        reloads = Counter("udr_reloads", "Reloads of the index.", ["outcome"], registry=registry)
        self._reloads = {outcome: reloads.labels(outcome) for outcome in Reload}
        self._missing_shards: Mapping[str, Counter] = {}
        refusals = Counter("udr_refused", "Requests that got no answer.", ["reason"], registry=registry)
        self._refusals = {reason: refusals.labels(reason) for reason in Refusal}
        failures = Counter("udr_upkeep_failures", "Attempts at upkeep that failed.", ["part"], registry=registry)
        self._failures = {part: failures.labels(part) for part in Upkeep}

    def request_answered(self, route: str | None, status: int) -> None:
        """Count a request by the template of its path (None if no route matched) and its status."""
        self._requests.labels(route if route in self._routes else OTHER, str(int(status))).inc()

    def stage_took(self, stage: Stage, seconds: float) -> None:
        """Time a stage of a request."""
        self._stages[stage].observe(seconds)

    def queue_changed(self, length: int) -> None:
        """Set how many texts wait now."""
        self._queue.set(length)

    def overlay_changed(self, rows: int, size: int) -> None:
        """Set how many rows lie on top of the version that answers, and the bytes of the log that has them."""
        self._overlay_rows.set(rows)
        self._overlay_bytes.set(size)

    def connections_changed(self, count: int) -> None:
        """Set how many connections are open now."""
        self._connections.set(count)

    def batch_encoded(self, size: int, tokens: int) -> None:
        """Count the texts and tokens of a batch."""
        self._batch_sizes.observe(size)
        self._batch_tokens.observe(tokens)

    def cache_looked_up(self, *, hit: int = 0, duplicate: int = 0, miss: int = 0) -> None:
        """Count queries whose vector was cached, was computed for an equal query, or had to be encoded."""
        for result, count in (("hit", hit), ("duplicate", duplicate), ("miss", miss)):
            self._lookups[result].inc(count)

    def task_answered(self, task: str | None) -> None:
        """Count an answer from a task; None is a family, or all tasks."""
        self._served_tasks.get(task or OTHER, self._other_task).inc()

    def index_switched(self, version: str, tasks: Iterable[str]) -> None:
        """Set the version that answers, from the first one on, and label its tasks.

        Tasks that have a label keep it and its count; of more than ``MOST_TASKS``, the first by name get one.
        """
        self._index.clear()
        self._index.labels(version).set(1)
        previous, served = self._served_tasks, set(tasks) - {OTHER}
        kept = [task for task in previous if task in served]
        named = list(dict.fromkeys([*kept, *sorted(served)]))[:MOST_TASKS]
        # Replaced whole: a thread that still holds the old mapping counts in series that are no longer shown.
        self._served_tasks = {task: self._tasks.labels(task) for task in named}
        for task in previous:
            if task not in served:
                self._tasks.remove(task)

    def reloaded(self, outcome: Reload) -> None:
        """Count a reload."""
        self._reloads[outcome].inc()

    def refused(self, reason: Refusal) -> None:
        """Count a request that was not answered."""
        self._refusals[reason].inc()

    def upkeep_failed(self, part: Upkeep) -> None:
        """Count a failed attempt, which the log tells once."""
        self._failures[part].inc()

    def count_missing(self, shards: Iterable[str]) -> None:
        """Begin to count the answers that lack each of these shards."""
        missing = Counter("udr_missing_shards", "Answers without a shard.", ["shard"], registry=self._registry)
        self._missing_shards = {shard: missing.labels(shard) for shard in shards}

    def shards_missed(self, shards: Iterable[str]) -> None:
        """Count an answer that lacks these shards."""
        for shard in shards:
            self._missing_shards[shard].inc()

    def report(self) -> Report:
        """Return what this process has counted."""
        return report(self._registry, self.labels)

    def render(self, others: Sequence[Report] = ()) -> tuple[bytes, str]:
        """Return the metrics in Prometheus's text format, and their content type; those of ``others`` are added."""
        collected = Added([self.report(), *others]) if others or self.labels else self._registry
        return generate_latest(collected), CONTENT_TYPE_PLAIN_0_0_4
