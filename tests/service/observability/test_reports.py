"""Reports: the metrics of several processes, added up."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from udr_service.observability import Metrics, Refusal, Report, added, lasting


def read(content: bytes) -> dict[tuple[str, Any], float]:
    families = text_string_to_metric_families(content.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def counting(requests: int, connections: int, version: str) -> Metrics:
    metrics = Metrics(["/v1/retrieve"])
    for _ in range(requests):
        metrics.request_answered("/v1/retrieve", 200)
        metrics.batch_encoded(3, 40)
    metrics.connections_changed(connections)
    metrics.overlay_changed(requests, 100 * requests)
    metrics.index_switched(version, ["notes"])
    return metrics


def test_what_is_counted_is_added_and_what_describes_is_not() -> None:
    first, second = counting(2, 5, "a"), counting(3, 6, "a")
    second.refused(Refusal.DEADLINE)
    values = read(first.render([second.report()])[0])
    assert values["udr_requests_total", (("route", "/v1/retrieve"), ("status", "200"))] == 5
    assert values["udr_refused_total", (("reason", "deadline"),)] == 1
    assert values["udr_connections", ()] == 11
    assert (values["udr_overlay_rows", ()], values["udr_overlay_bytes", ()]) == (3, 300)
    assert values["udr_batch_size_bucket", (("le", "4.0"),)] == values["udr_batch_size_count", ()] == 5
    assert values["udr_index_info", (("version", "a"),)] == 1
    alone = read(first.render()[0])
    assert values["process_start_time_seconds", ()] == alone["process_start_time_seconds", ()]
    assert values["process_resident_memory_bytes", ()] > 1.5 * alone["process_resident_memory_bytes", ()]
    assert values.keys() == alone.keys() | read(second.render()[0]).keys()


def test_during_a_reload_both_versions_are_shown() -> None:
    values = read(counting(1, 0, "a").render([counting(1, 0, "b").report()])[0])
    assert [values["udr_index_info", (("version", name),)] for name in "ab"] == [1, 1]


def test_of_an_ended_process_only_what_grows_counts_on() -> None:
    ended: Report = lasting(counting(4, 9, "a").report())
    values = read(counting(1, 2, "b").render([added([ended, ended])])[0])
    assert values["udr_requests_total", (("route", "/v1/retrieve"), ("status", "200"))] == 9
    assert values["udr_connections", ()] == 2
    assert ("udr_index_info", (("version", "a"),)) not in values


def test_labelled_processes_are_shown_side_by_side() -> None:
    first, second = counting(2, 5, "a"), counting(3, 6, "b")
    first.labels, second.labels = {"replica": "1"}, {"replica": "2"}
    values = read(first.render([second.report()])[0])
    for replica, requests, connections, version in (("1", 2, 5, "a"), ("2", 3, 6, "b")):
        own = ("replica", replica)
        assert values["udr_requests_total", (own, ("route", "/v1/retrieve"), ("status", "200"))] == requests
        assert values["udr_connections", (own,)] == connections
        assert values["udr_index_info", (own, ("version", version))] == 1
    assert read(first.render()[0])["udr_connections", (("replica", "1"),)] == 5
