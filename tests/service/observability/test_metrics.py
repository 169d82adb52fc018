"""Metrics: each event changes its own numbers only, and nothing that a client sends becomes a label."""

import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from udr_service.observability import (
    BATCH_SIZES,
    BATCH_TOKENS,
    MOST_TASKS,
    SECONDS,
    Metrics,
    Refusal,
    Reload,
    Stage,
    Upkeep,
)

TASKS = "udr_task_answers_total"


def numbers(metrics: Metrics) -> dict[str, float]:
    """What Prometheus reads, as ``name{label}``, without creation times."""
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render()[0].decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def changed(metrics: Metrics, event: Callable[[Metrics], None]) -> dict[str, float]:
    """The numbers of ours that an event changes, and by how much."""
    before = numbers(metrics)
    event(metrics)
    differences = {name: value - before.get(name, 0.0) for name, value in numbers(metrics).items()}
    return {name: value for name, value in differences.items() if value and name.startswith("udr_")}


def labels(metrics: Metrics, name: str) -> list[str]:
    return sorted(key[len(name) + 1 : -1] for key in numbers(metrics) if key.startswith(name + "{"))


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(["/v1/retrieve", "/v1/tasks/{task}"])
    metrics.index_switched("v1", ["notes", "reviews"])
    return metrics


EVENTS: list[tuple[Callable[[Metrics], None], str, int]] = [
    (lambda m: m.request_answered("/v1/retrieve", 200), "udr_requests_total{/v1/retrieve}{200}", 1),
    (lambda m: m.request_answered("/v1/tasks/{task}", 404), "udr_requests_total{/v1/tasks/{task}}{404}", 1),
    (lambda m: m.request_answered(None, 404), "udr_requests_total{other}{404}", 1),
    (lambda m: m.request_answered("/v1/tasks/secret", 404), "udr_requests_total{other}{404}", 1),
    (lambda m: m.cache_looked_up(hit=1), "udr_query_cache_total{hit}", 1),
    (lambda m: m.cache_looked_up(miss=3), "udr_query_cache_total{miss}", 3),
    (lambda m: m.cache_looked_up(duplicate=2), "udr_query_cache_total{duplicate}", 2),
    (lambda m: m.task_answered("notes"), "udr_task_answers_total{notes}", 1),
    (lambda m: m.task_answered(None), "udr_task_answers_total{other}", 1),
    (lambda m: m.task_answered("nowhere"), "udr_task_answers_total{other}", 1),
    *((partial(Metrics.reloaded, outcome=outcome), f"udr_reloads_total{{{outcome}}}", 1) for outcome in Reload),
    *((partial(Metrics.refused, reason=reason), f"udr_refused_total{{{reason}}}", 1) for reason in Refusal),
    *((partial(Metrics.upkeep_failed, part=part), f"udr_upkeep_failures_total{{{part}}}", 1) for part in Upkeep),
]


@pytest.mark.parametrize(("event", "name", "count"), EVENTS)
def test_an_event_counts_once_and_nowhere_else(
    metrics: Metrics, event: Callable[[Metrics], None], name: str, count: int
) -> None:
    for _ in range(2):
        assert changed(metrics, event) == {name: count}
    assert changed(Metrics([]), lambda _: event(metrics)) == {}


def test_the_queue_batches_and_stages(metrics: Metrics) -> None:
    for length in (9, 2):
        metrics.queue_changed(length)
    for size, tokens in ((1, 9), (5, 300), (600, 100_000)):
        metrics.batch_encoded(size, tokens)
    metrics.stage_took(Stage.ENCODE, 0.001)
    shown = numbers(metrics)
    assert (shown["udr_queue_length"], shown["udr_batch_size_sum"], shown["udr_batch_tokens_sum"]) == (2, 606, 100_309)
    bounds = ("1.0", "4.0", "8.0", "512.0", "+Inf")
    assert [shown[f"udr_batch_size_bucket{{{bound}}}"] for bound in bounds] == [1, 1, 2, 2, 3]
    assert [shown[f"udr_stage_seconds_count{{{stage}}}"] for stage in Stage] == [0, 1, 0, 0, 0, 0]
    assert (SECONDS[0], SECONDS[-1], BATCH_SIZES[-1], BATCH_TOKENS[-1]) == (0.0005, 10.0, 512, 65_536)
    for buckets in (SECONDS, BATCH_SIZES, BATCH_TOKENS):
        assert all(1 < after / before <= 2.5 for before, after in pairwise(buckets))


def test_all_series_begin_at_0_in_their_own_registry() -> None:
    """Prometheus's ``rate`` sees no increase in a series that begins at 1."""
    metrics = Metrics([])
    assert {value for name, value in numbers(metrics).items() if name.startswith("udr_")} == {0}
    assert set(labels(metrics, "udr_refused_total")) == set(Refusal)
    assert set(labels(metrics, "udr_reloads_total")) == set(Reload)
    assert set(labels(metrics, "udr_stage_seconds_count")) == set(Stage)
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("udr")]


def test_only_the_active_version_and_its_tasks_are_shown(metrics: Metrics) -> None:
    assert labels(metrics, "udr_index_info") == ["v1"]
    for _ in range(2):
        metrics.task_answered("notes")
        metrics.task_answered("reviews")
        metrics.index_switched("v2", ["notes", "questions", "other"])
    assert labels(metrics, "udr_index_info") == ["v2"] and numbers(metrics)["udr_index_info{v2}"] == 1
    assert {task: numbers(metrics)[f"{TASKS}{{{task}}}"] for task in labels(metrics, TASKS)} == {
        "notes": 2,
        "questions": 0,
        "other": 1,
    }


def test_at_most_100_tasks_have_labels_over_all_versions(metrics: Metrics) -> None:
    metrics.index_switched("v2", [f"t{number:03}" for number in reversed(range(250))])
    first = [f"t{number:03}" for number in range(MOST_TASKS)]
    assert labels(metrics, TASKS) == ["other", *first]
    assert changed(metrics, lambda m: m.task_answered("t099")) == {f"{TASKS}{{t099}}": 1}
    assert changed(metrics, lambda m: m.task_answered("t100")) == {f"{TASKS}{{other}}": 1}
    # Labelled tasks keep their labels; one is free, since t000 is gone.
    metrics.index_switched("v3", [f"a{number}" for number in range(250)] + first[1:])
    assert labels(metrics, TASKS) == sorted(["a0", "other", *first[1:]])


def test_render_declares_types_and_shows_the_interpreter(metrics: Metrics) -> None:
    body, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# HELP udr_stage_seconds What the stages of requests took.\n# TYPE udr_stage_seconds histogram\n" in body
    assert b"process_resident_memory_bytes" in body or sys.platform != "linux"
    assert b"python_info" in body and b"python_gc_collections_total" in body
