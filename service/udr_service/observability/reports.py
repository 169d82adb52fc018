"""Reports: the metrics of several processes, added up; see ``docs/serving.md`` for what each then means."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric

# All others are added up.
_RULES: dict[str, Callable[[float, float], float]] = {
    "process_start_time_seconds": min,
    "process_max_fds": max,
    "python_info": max,
    "udr_index_info": max,
    "udr_overlay_rows": max,
    "udr_overlay_bytes": max,
}
_LASTING = ("counter", "histogram")


class Family(NamedTuple):
    """A metric: its name, description and type, and the value of each sample, by its name and labels."""

    name: str
    description: str
    kind: str
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]


Report = list[Family]
"""The metrics of a process."""


def report(registry: CollectorRegistry, labels: Mapping[str, str]) -> Report:
    """Return what a process has counted, with some labels more on each sample."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            {(sample.name, tuple({**sample.labels, **labels}.items())): sample.value for sample in metric.samples},
        )
        for metric in registry.collect()
    ]


def of_workers(number: int, restarts: int) -> Report:
    """Return what the process that started several workers counts itself."""
    return [
        Family("udr_workers", "Processes that answer.", "gauge", {("udr_workers", ()): number}),
        Family(
            "udr_worker_restarts",
            "Workers that were replaced.",
            "counter",
            {("udr_worker_restarts_total", ()): restarts},
        ),
    ]


def lasting(counted: Report) -> Report:
    """Return the part of a report that counts on after its process has ended: what only grows."""
    return [family for family in counted if family.kind in _LASTING]


def added(reports: Iterable[Report]) -> Report:
    """Return the sum of reports."""
    sums: dict[str, Family] = {}
    for family in (family for each in reports for family in each):
        into = sums.setdefault(family.name, family._replace(samples={})).samples
        for key, value in family.samples.items():
            rule = min if key[0].endswith("_created") else _RULES.get(family.name)
            into[key] = value if key not in into else rule(into[key], value) if rule else into[key] + value
    return list(sums.values())


class Added:
    """A collector of the sum of reports."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        for family in added(self._reports):
            metric = Metric(family.name, family.description, family.kind)
            for (name, labels), value in family.samples.items():
                metric.add_sample(name, dict(labels), value)
            yield metric
