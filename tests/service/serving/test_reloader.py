"""Reloads: each request is answered by one version, and a version that does not work is refused."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder, write_collection
from tests.service.conftest import BODY, Source, Words, on_event_loop
from tests.service.observability.test_audit import lines
from tests.waiting import until
from udr.errors import OutdatedError, OverloadedError, UdrError
from udr.retrieval import Retriever
from udr.store import open_version, search_digest, version_path, write_weights
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_service import NotReadyError, Settings, create_app
from udr_service.observability import Audit, Metrics
from udr_service.serving import ActiveVersion, Current, Reloaded, Reloader, Worker


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An index of two versions; the current one has fewer tasks."""
    collection, out = write_collection(tmp_path / "tasks"), tmp_path / "out"
    build(BuildConfig(tasks=collection, out=out), HashEncoder())
    build(BuildConfig(tasks=collection, out=out, names=("notes", "reviews")), HashEncoder())
    return Source(out)


@pytest.fixture
def versions(source: Source) -> list[str]:
    """The names of the versions, the current one last."""
    current = source.current()
    return [*(path.name for path in (source.index / "versions").iterdir() if path.name != current), current]


@pytest.fixture
def client(source: Source, versions: list[str]) -> Iterator[TestClient]:
    """A service of the current version, after the other one was published."""
    with TestClient(create_app(source, Settings())) as client:
        until(lambda: is_ready(client))
        publish(source.index, versions[0])
        yield client


def is_ready(client: TestClient) -> bool:
    return client.get("/readyz").is_success


def test_reload_switches_to_the_published_version(client: TestClient, source: Source, versions: list[str]) -> None:
    assert client.get("/v1/info").json()["index_version"] == versions[1]
    client.post("/v1/retrieve", json={**BODY, "filter": '$target = "sad"'})

    answer = client.post("/v1/admin/reload")

    assert answer.json() == {"index_version": versions[0], "previous": versions[1]}
    answer = client.post("/v1/retrieve", json=BODY)
    assert answer.json()["index_version"] == answer.headers["X-Udr-Index-Version"] == versions[0]
    assert client.post("/v1/admin/reload").json() == {"index_version": versions[0], "previous": versions[0]}
    assert len(source.opened) == 2, "the active version is not opened again"
    assert source.opened[1].fields_read == {"notes": {"$target"}}, "what filters read is read before the switch"
    assert f'udr_index_info{{version="{versions[0]}"}} 1.0' in client.get("/metrics").text


def reweigh(index: Path, weight: float) -> str:
    """Set the hybrid weight of the published version's notes; return what says so in ``/v1/info``."""
    version = open_version(index)
    write_weights(version.path, version.manifest, {"notes": weight})
    return search_digest(version.path, version.manifest)


def test_reload_takes_up_new_weights_of_the_version_that_answers(
    client: TestClient, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/v1/admin/reload")
    version, body = source.current(), {**BODY, "k": 5, "mode": "hybrid"}
    (logged,) = (line for line in lines(caplog) if line["event"] == "reloaded")
    assert logged["search_digest"] == client.get("/v1/info").json()["search_digest"]
    answers = list[list[tuple[str, float]]]()
    for weight in (0.0, 1.0):
        digest = reweigh(source.index, weight)
        assert client.get("/v1/info").json()["search_digest"] != digest
        assert client.post("/v1/admin/reload").json() == {"index_version": version, "previous": version}
        assert client.get("/v1/info").json()["search_digest"] == digest
        found = client.post("/v1/retrieve", json=body).json()["demonstrations"]
        answers.append([(item["id"], item["similarity"]) for item in found])
        with Retriever.open(source.index, encoder=HashEncoder()) as fresh:
            expected = fresh.retrieve("notes", BODY["input"], 5, mode="hybrid").demonstrations
            assert answers[-1] == [(item.id, item.similarity) for item in expected]
    assert answers[0] != answers[1]
    opened = len(source.opened)
    client.post("/v1/admin/reload")
    assert len(source.opened) == opened, "nothing has changed"
    counts = client.get("/metrics").text
    assert 'udr_reloads_total{outcome="switched"} 3.0' in counts and 'outcome="unchanged"} 1.0' in counts
    (version_path(source.index, version) / "search.json").write_text("{}")
    assert client.post("/v1/admin/reload").is_success and len(source.opened) == opened
    assert client.get("/v1/info").json()["search_digest"] == digest


@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "does not answer"])
def test_a_version_that_does_not_work_is_refused_and_closed(
    client: TestClient, source: Source, versions: list[str], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    load, closed = source.load, list[str]()

    def broken(metrics: object, name: str | None = None) -> ActiveVersion:
        version = load(metrics)
        monkeypatch.setattr(version.retriever, "search", lambda plans, vectors: 1 / 0)
        monkeypatch.setattr(version.retriever, "close", lambda: closed.append(version.version))
        return version

    if damaged:
        file = version_path(source.index, versions[0]) / "demonstrations.sqlite"
        file.write_bytes(file.read_bytes()[:-1])
    else:
        monkeypatch.setattr(source, "load", broken)
    answer = client.post("/v1/admin/reload")

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:udr:problem:reload-refused")
    detail = answer.json()["detail"]
    assert f"version {versions[1]} still answers" in detail and "division" not in detail
    assert ("does not answer; see the service's log" not in detail) == damaged
    assert closed == ([] if damaged else [versions[0]])
    assert client.post("/v1/retrieve", json=BODY).json()["index_version"] == versions[1]
    assert 'udr_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_a_full_queue_delays_a_reload(
    client: TestClient, source: Source, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    do, refused = Worker.do, list[str]()

    async def full_at_first(worker: Worker, retriever: Retriever, *arguments: Any) -> Any:
        if retriever.index_version == versions[0] and not refused:
            refused.append(retriever.index_version)
            raise OverloadedError("the queue is full")
        return await do(worker, retriever, *arguments)

    monkeypatch.setattr(Worker, "do", full_at_first)
    assert client.post("/v1/admin/reload").json() == {"index_version": versions[0], "previous": versions[1]}
    assert len(refused) == 1 and len(source.opened) == 2


@on_event_loop
async def test_a_cancelled_reload_finishes_and_no_second_one_starts_beside_it(
    source: Source, versions: list[str]
) -> None:
    current, running, parallel, load = Current(), list[int](), list[int](), source.load

    def counted(metrics: object, name: str | None = None) -> ActiveVersion:
        running.append(1)
        parallel.append(len(running))
        try:
            return load(metrics)
        finally:
            running.pop()

    source.load = counted  # type: ignore[method-assign]
    worker = Worker(queue_size=8, batch_size=8, batch_tokens=1000)
    reloader = Reloader(source, current, worker, None, Metrics([]), Audit())
    await reloader.load()
    publish(source.index, versions[0])
    source.go.clear()
    reloads = [asyncio.ensure_future(reloader.reload()) for _ in range(3)]
    await asyncio.sleep(0.05)
    for reload in reloads:
        reload.cancel()
    await asyncio.wait(reloads)
    last = asyncio.ensure_future(reloader.reload())
    await asyncio.sleep(0.05)
    source.go.set()
    assert (await last).version == versions[0] == current.version
    assert parallel == [1, 1]
    worker.close()
    current.switch(None)


def test_a_watching_service_reloads_by_itself_and_survives_errors(source: Source, versions: list[str]) -> None:
    current = source.index / "CURRENT"
    with TestClient(create_app(source, Settings(watch_seconds=0.01))) as client:
        until(lambda: is_ready(client))
        current.rename(source.index / "moved")
        time.sleep(0.05)
        (source.index / "moved").rename(current)
        publish(source.index, versions[0])
        until(lambda: client.get("/v1/info").json()["index_version"] == versions[0])
        digest = reweigh(source.index, 0.2)
        until(lambda: client.get("/v1/info").json()["search_digest"] == digest)


def test_a_watching_service_opens_the_index_once_what_is_measured_stays(source: Source, versions: list[str]) -> None:
    weights, digests, current = [number / 10 for number in range(10)], list[str](), source.current

    def measuring() -> str:
        # Another weight before each look.
        if weights and source.opened:
            digests.append(reweigh(source.index, weights.pop()))
        return current()

    source.current = measuring  # type: ignore[method-assign]
    with TestClient(create_app(source, Settings(watch_seconds=0.01))) as client:
        until(lambda: not weights and client.get("/v1/info").json()["search_digest"] == digests[-1])
        assert len(source.opened) == 2


def test_the_service_is_alive_but_not_ready_until_it_has_loaded(source: Source) -> None:
    source.go.clear()
    app = create_app(source, Settings())
    with TestClient(app) as client:
        assert client.get("/livez").status_code == 200
        for answer in (client.get("/readyz"), client.post("/v1/retrieve", json=BODY), client.get("/v1/info")):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:not-ready")
            assert answer.headers["Retry-After"] == "1"
        (source.index / "CURRENT").unlink()
        source.go.set()
        until(lambda: app.state.service.reloader.failure is not None)
        assert client.get("/readyz").status_code == 503
    with pytest.raises(UdrError, match="no index here"):
        raise app.state.service.reloader.failure


class Closing:
    """A retriever that counts how often it was closed."""

    index_version, path, files = "v", Path(), dict[str, object]()

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def active(self, lent: bool = False) -> ActiveVersion:
        return ActiveVersion(self, Words(), lent)  # type: ignore[arg-type]


def test_a_version_closes_after_its_last_request_unless_it_is_lent() -> None:
    current, before, after, lent = Current(), Closing(), Closing(), Closing()
    with pytest.raises(NotReadyError, match="loading"), current.lease():
        pass
    current.switch(before.active())
    with current.lease() as outer:
        assert current.alone
        with current.lease():
            current.switch(after.active())
            with current.lease() as newer:
                assert newer is not outer and not current.alone
        assert (before.closed, after.closed) == (0, 0)
    assert (before.closed, after.closed) == (1, 0)
    current.switch(lent.active(lent=True))
    current.switch(None)
    assert (before.closed, after.closed, lent.closed) == (1, 1, 0)


@on_event_loop
async def test_a_worker_that_cannot_open_the_version_of_the_others_has_all_open_the_published_one(
    source: Source, versions: list[str]
) -> None:
    async def reload() -> Reloaded:
        async with reloader.prepared() as prepared:
            return reloader.use(prepared)

    load, team, current = source.load, Mock(version="0" * 16, reload=reload), Current()

    def forgotten(metrics: object, name: str | None = None) -> ActiveVersion:
        if name is not None:
            raise OutdatedError("the log was emptied")
        return load(metrics)

    source.load = forgotten  # type: ignore[method-assign]
    worker = Worker(queue_size=8, batch_size=8, batch_tokens=1000)
    reloader = Reloader(source, current, worker, None, Metrics([]), Audit(), team)
    assert (await reloader.load()).version == versions[-1] == current.version
    worker.close()
    current.switch(None)
