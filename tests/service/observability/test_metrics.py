"""Metrics: each event moves its own numbers, by hand-made counts; and nothing that a client sends becomes a label."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from udr_service.observability import BATCH_SIZES, BATCH_TOKENS, MOST_TASKS, SECONDS, Metrics, Refusal, Reload, Stage

TASKS = "udr_task_answers_total"
ROUTES = ("/v1/retrieve", "/v1/tasks/{task}")
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    """What Prometheus would read, by name and labels; when series were made is left out."""
    body, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def ours(found: Samples) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {key: value for key, value in found.items() if key[0].startswith("udr_")}


def changed(metrics: Metrics, event: Callable[[], None]) -> dict[str, float]:
    """What an event makes of our numbers: differences, as ``name{label}``, that are not 0."""
    before = ours(samples(metrics))
    event()
    return {
        name + "".join(f"{{{value}}}" for _, value in labels): value - before.get((name, labels), 0.0)
        for (name, labels), value in ours(samples(metrics)).items()
        if value != before.get((name, labels), 0.0)
    }


def labels(metrics: Metrics, name: str, label: str) -> list[str]:
    return sorted(dict(found)[label] for sample, found in samples(metrics) if sample == name)


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(ROUTES)
    made.index_switched("v1", ["notes", "reviews"])
    return made


COUNTED: Mapping[str, tuple[Callable[[Metrics], None], dict[str, float]]] = {
    "a request": (lambda m: m.request_answered("/v1/retrieve", 200), {"udr_requests_total{/v1/retrieve}{200}": 1}),
    "a status by name": (
        lambda m: m.request_answered("/v1/tasks/{task}", HTTPStatus.NOT_FOUND),
        {"udr_requests_total{/v1/tasks/{task}}{404}": 1},
    ),
    "a request that no route took": (
        lambda m: m.request_answered(None, 404),
        {"udr_requests_total{other}{404}": 1},
    ),
    "the queue": (lambda m: m.queue_changed(7), {"udr_queue_length": 7}),
    "a hit": (lambda m: m.cache_hit(), {"udr_query_cache_total{hit}": 1}),
    "misses": (lambda m: m.cache_missed(3), {"udr_query_cache_total{miss}": 3}),
    "duplicates": (lambda m: m.duplicate_joined(2), {"udr_query_cache_total{duplicate}": 2}),
    "a task": (lambda m: m.task_answered("notes"), {"udr_task_answers_total{notes}": 1}),
    "no task": (lambda m: m.task_answered(None), {"udr_task_answers_total{other}": 1}),
    "an unknown task": (lambda m: m.task_answered("nowhere"), {"udr_task_answers_total{other}": 1}),
    **{
        f"a reload, {outcome}": (
            lambda m, outcome=outcome: m.reloaded(outcome),  # type: ignore[misc]
            {f"udr_reloads_total{{{outcome}}}": 1},
        )
        for outcome in Reload
    },
    **{
        f"a refusal, {reason}": (
            lambda m, reason=reason: m.refused(reason),  # type: ignore[misc]
            {f"udr_refused_total{{{reason}}}": 1},
        )
        for reason in Refusal
    },
}


@pytest.mark.parametrize(("event", "expected"), COUNTED.values(), ids=COUNTED)
def test_an_event_counts_once_and_nowhere_else(
    metrics: Metrics, event: Callable[[Metrics], None], expected: dict[str, float]
) -> None:
    assert changed(metrics, lambda: event(metrics)) == expected
    if "udr_queue_length" not in expected:
        assert changed(metrics, lambda: event(metrics)) == expected, "counters add up"


def test_the_queue_is_what_it_was_last(metrics: Metrics) -> None:
    for length in (3, 9, 2):
        metrics.queue_changed(length)
    assert samples(metrics)["udr_queue_length", ()] == 2


def buckets(found: Samples, name: str, **labels: str) -> dict[float, float]:
    return {
        float(dict(key)["le"]): value
        for (sample, key), value in found.items()
        if sample == f"{name}_bucket" and labels.items() <= dict(key).items()
    }


def cumulated(values: list[float], bounds: tuple[float, ...]) -> dict[float, float]:
    """The oracle: how many values are at most each bound."""
    return {bound: sum(value <= bound for value in values) for bound in (*bounds, float("inf"))}


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(Stage), st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), max_size=8)))
def test_stages_are_timed_apart(taken: dict[Stage, list[float]]) -> None:
    metrics = Metrics(ROUTES)
    for stage, values in taken.items():
        for seconds in values:
            metrics.stage_took(stage, seconds)
    found = samples(metrics)
    for stage in Stage:
        values = taken.get(stage, [])
        assert buckets(found, "udr_stage_seconds", stage=stage) == cumulated(values, SECONDS)
        assert found["udr_stage_seconds_sum", (("stage", stage),)] == pytest.approx(sum(values))


def test_buckets_go_from_half_a_millisecond_to_ten_seconds() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 10.0)
    for bounds in (SECONDS, BATCH_SIZES, BATCH_TOKENS):
        assert all(1 < after / before <= 2.5 for before, after in pairwise(bounds))
    assert (BATCH_SIZES[-1], BATCH_TOKENS[-1]) == (512, 65_536)


def test_batches_are_counted_by_texts_and_by_tokens(metrics: Metrics) -> None:
    batches = [(1, 9), (1, 16), (5, 300), (64, 8_192), (600, 100_000)]
    for size, tokens in batches:
        metrics.batch_encoded(size, tokens)
    found = samples(metrics)
    assert buckets(found, "udr_batch_size") == cumulated([float(size) for size, _ in batches], BATCH_SIZES)
    assert buckets(found, "udr_batch_tokens") == cumulated([float(tokens) for _, tokens in batches], BATCH_TOKENS)
    assert (found["udr_batch_size_sum", ()], found["udr_batch_tokens_sum", ()]) == (671, 108_517)


def test_series_begin_at_0_so_that_the_first_event_shows() -> None:
    """Prometheus's ``rate`` sees no increase where a series appears with a 1."""
    found = ours(samples(Metrics(ROUTES)))
    assert set(found.values()) == {0}
    assert {dict(key)["reason"] for name, key in found if name == "udr_refused_total"} == set(Refusal)
    assert {dict(key)["outcome"] for name, key in found if name == "udr_reloads_total"} == set(Reload)
    assert {dict(key)["stage"] for name, key in found if name == "udr_stage_seconds_count"} == set(Stage)


def test_one_index_version_is_shown_the_one_that_answers(metrics: Metrics) -> None:
    assert labels(metrics, "udr_index_info", "version") == ["v1"]
    metrics.index_switched("v2", ["notes"])
    assert labels(metrics, "udr_index_info", "version") == ["v2"]
    assert samples(metrics)["udr_index_info", (("version", "v2"),)] == 1


def test_tasks_come_and_go_with_the_index_and_those_that_stay_keep_their_counts(metrics: Metrics) -> None:
    metrics.task_answered("notes")
    metrics.task_answered("reviews")
    metrics.index_switched("v2", ["notes", "questions"])
    metrics.task_answered("notes")
    metrics.task_answered("reviews")
    found = {dict(key)["task"]: value for (name, key), value in samples(metrics).items() if name == TASKS}
    assert found == {"notes": 2, "questions": 0, "other": 1}


def test_at_most_100_tasks_have_labels_over_any_number_of_versions(metrics: Metrics) -> None:
    metrics.index_switched("v2", [f"t{n:03}" for n in reversed(range(250))])
    first = [f"t{n:03}" for n in range(MOST_TASKS)]
    assert labels(metrics, TASKS, "task") == ["other", *first]
    assert changed(metrics, lambda: metrics.task_answered("t099")) == {f"{TASKS}{{t099}}": 1}
    assert changed(metrics, lambda: metrics.task_answered("t100")) == {f"{TASKS}{{other}}": 1}
    # Those with a label keep it, though others come before them by name; one is free, for t000 is gone.
    metrics.index_switched("v3", [f"a{n}" for n in range(250)] + first[1:])
    assert labels(metrics, TASKS, "task") == sorted(["a0", "other", *first[1:]])
    for number in range(20):
        metrics.index_switched(f"v{number}", [f"{number}-{n}" for n in range(150)])
    assert len(labels(metrics, TASKS, "task")) == MOST_TASKS + 1


def test_a_task_may_be_named_other(metrics: Metrics) -> None:
    metrics.index_switched("v2", ["other", "notes"])
    metrics.task_answered("other")
    metrics.index_switched("v3", ["notes"])
    assert changed(metrics, lambda: metrics.task_answered(None)) == {f"{TASKS}{{other}}": 1}
    assert samples(metrics)[TASKS, (("task", "other"),)] == 2


@settings(max_examples=30)
@given(st.text())
def test_no_text_and_no_key_becomes_a_label(text: str) -> None:
    secret = f"udr_secret {text}"
    metrics = Metrics(ROUTES)
    metrics.index_switched("v1", ["notes"])
    before = len(samples(metrics))
    for status in (200, 404):
        metrics.request_answered(f"/v1/tasks/{secret}", status)
        metrics.request_answered(secret, status)
    metrics.task_answered(secret)
    assert b"udr_secret" not in metrics.render()[0]
    assert len(samples(metrics)) == before + 2, "two statuses of one route, other"


def test_the_process_and_the_interpreter_are_there_and_the_default_registry_is_left_alone(metrics: Metrics) -> None:
    names = {name for name, _ in samples(metrics)}
    assert {"python_info", "python_gc_collections_total"} <= names
    if sys.platform == "linux":
        assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= names
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("udr")]


def test_two_services_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics(ROUTES)
    assert changed(other, lambda: metrics.cache_hit()) == {}


def test_what_is_rendered_is_declared_as_it_is(metrics: Metrics) -> None:
    body, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# HELP udr_stage_seconds What the stages of requests took.\n# TYPE udr_stage_seconds histogram\n" in body


def test_threads_count_together(metrics: Metrics) -> None:
    def tell(_: int) -> None:
        for _ in range(200):
            metrics.cache_hit()
            metrics.task_answered("notes")
            metrics.stage_took(Stage.ENCODE, 0.001)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tell, range(8)))
    found = samples(metrics)
    assert found["udr_query_cache_total", (("result", "hit"),)] == 1_600
    assert found[TASKS, (("task", "notes"),)] == 1_600
    assert found["udr_stage_seconds_count", (("stage", "encode"),)] == 1_600
