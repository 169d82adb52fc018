"""Another version takes over whole: each request is answered by one version, and a bad one is kept out."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder, write_collection
from tests.service.conftest import Words
from udr.errors import OverloadedError, UdrError
from udr.retrieval import Retriever
from udr.store import open_version, read_current, version_path
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_service import NotReadyError, Settings, create_app
from udr_service.observability import Metrics
from udr_service.serving import ActiveVersion, Current, Reloaded, Reloader, Worker

BODY = {"task": "notes", "input": "a dull day", "k": 1}


class Source:
    """An index directory, opened with the hash encoder; remembers what it opened."""

    def __init__(self, index: Path) -> None:
        self.index, self.opened = index, list[Retriever]()
        self.go = threading.Event()
        self.go.set()

    def current(self) -> str:
        return read_current(self.index)

    def load(self) -> ActiveVersion:
        assert self.go.wait(10)
        self.opened.append(Retriever.of_version(open_version(self.index), encoder=HashEncoder()))
        return ActiveVersion(self.opened[-1], Words())


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An index of two versions; the second one, of fewer tasks, is current."""
    collection = write_collection(tmp_path / "tasks")
    build(BuildConfig(tasks=collection, out=tmp_path / "out"), HashEncoder())
    build(BuildConfig(tasks=collection, out=tmp_path / "out", names=("notes", "reviews")), HashEncoder())
    return tmp_path / "out"


@pytest.fixture
def versions(two: Path) -> list[str]:
    """Their names, the current one last."""
    now = read_current(two)
    return [*(path.name for path in (two / "versions").iterdir() if path.name != now), now]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ready(client: TestClient) -> bool:
    return bool(client.get("/readyz").status_code == 200)


@pytest.fixture
def source(two: Path) -> Source:
    return Source(two)


@pytest.fixture
def client(source: Source) -> Iterator[TestClient]:
    with TestClient(create_app(source, Settings())) as client:
        until(lambda: ready(client))
        yield client


def test_a_reload_switches_to_the_published_version(
    client: TestClient, source: Source, two: Path, versions: list[str]
) -> None:
    publish(two, versions[0])
    assert client.get("/v1/info").json()["index_version"] == versions[1]

    answer = client.post("/v1/admin/reload")

    assert answer.json() == {"index_version": versions[0], "previous": versions[1]}
    assert client.post("/v1/retrieve", json=BODY).json()["index_version"] == versions[0]
    assert client.post("/v1/retrieve", json=BODY).headers["X-Udr-Index-Version"] == versions[0]
    assert client.post("/v1/admin/reload").json() == {"index_version": versions[0], "previous": versions[0]}
    assert len(source.opened) == 2, "what is served already is not opened again"
    assert f'udr_index_info{{version="{versions[0]}"}} 1.0' in client.get("/metrics").text


def test_a_damaged_version_is_kept_out(client: TestClient, two: Path, versions: list[str]) -> None:
    publish(two, versions[0])
    damaged = version_path(two, versions[0]) / "demonstrations.sqlite"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    answer = client.post("/v1/admin/reload")

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:udr:problem:reload-refused")
    assert f"version {versions[1]} still answers" in answer.json()["detail"]
    assert client.post("/v1/retrieve", json=BODY).json()["index_version"] == versions[1]
    assert 'udr_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_a_version_that_does_not_answer_is_kept_out_and_closed(
    client: TestClient, source: Source, two: Path, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(two, versions[0])
    load, closed = source.load, list[str]()

    def broken() -> ActiveVersion:
        served = load()
        monkeypatch.setattr(served.retriever, "search", lambda plans, vectors: 1 / 0)
        monkeypatch.setattr(served.retriever, "close", lambda: closed.append(served.version))
        return served

    monkeypatch.setattr(source, "load", broken)
    answer = client.post("/v1/admin/reload")
    assert answer.status_code == 409
    assert "does not answer; see the log" in answer.json()["detail"] and "division" not in answer.text
    assert closed == [versions[0]]
    assert client.post("/v1/retrieve", json=BODY).json()["index_version"] == versions[1]


def test_a_version_is_not_given_up_because_the_queue_is_full(
    client: TestClient, source: Source, two: Path, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(two, versions[0])
    do, refused = Worker.do, list[str]()

    async def full_at_first(worker: Worker, retriever: Retriever, *arguments: Any) -> Any:
        if retriever.index_version == versions[0] and len(refused) < 2:
            refused.append(retriever.index_version)
            raise OverloadedError("the queue is full")
        return await do(worker, retriever, *arguments)

    monkeypatch.setattr(Worker, "do", full_at_first)

    assert client.post("/v1/admin/reload").json() == {"index_version": versions[0], "previous": versions[1]}
    assert len(refused) == 2 and len(source.opened) == 2


def test_who_hangs_up_during_a_reload_leaves_it_to_be_finished_and_never_starts_another_beside_it(
    source: Source, two: Path, versions: list[str]
) -> None:
    current, loads, most = Current(), list[int](), list[int]()
    load = source.load

    def counted() -> ActiveVersion:
        loads.append(1)
        most.append(len(loads))
        try:
            return load()
        finally:
            loads.pop()

    source.load = counted  # type: ignore[method-assign]
    worker = Worker(queue_size=8, batch_size=8, batch_tokens=1000)
    reloader = Reloader(source, current, worker, None, Metrics([]))

    async def run() -> Reloaded:
        await reloader.load()
        publish(two, versions[0])
        source.go.clear()
        asking = [asyncio.ensure_future(reloader.reload()) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        last = asyncio.ensure_future(reloader.reload())
        await asyncio.sleep(0.1)
        source.go.set()
        return await last

    assert asyncio.run(run()).version == versions[0] == current.version
    assert most == [1, 1]
    worker.close()
    current.switch(None)


def test_an_open_retriever_cannot_be_reloaded(service: TestClient) -> None:
    answer = service.post("/v1/admin/reload")
    assert answer.status_code == 409
    assert "given an open index" in answer.json()["detail"]


def test_a_watcher_takes_what_is_published(source: Source, two: Path, versions: list[str]) -> None:
    with TestClient(create_app(source, Settings(watch_seconds=0.01))) as client:
        until(lambda: ready(client))
        publish(two, versions[0])
        until(lambda: client.get("/v1/info").json()["index_version"] == versions[0])


def test_no_request_fails_and_each_has_one_version_while_versions_change(
    client: TestClient, source: Source, two: Path, versions: list[str]
) -> None:
    def ask(number: int) -> tuple[str, set[str]]:
        requests = [{**BODY, "input": f"{number} {place}"} for place in range(3)]
        answer = client.post("/v1/retrieve/batch", json={"requests": requests})
        assert answer.status_code == 200
        named = {result["index_version"] for result in answer.json()["results"]}
        return answer.headers["X-Udr-Index-Version"], named

    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(ask, range(100))
        for turn in range(6):
            publish(two, versions[turn % 2])
            assert client.post("/v1/admin/reload").status_code == 200
        for header, named in answers:
            assert named == {header}


def test_it_lives_and_is_not_ready_while_it_loads(source: Source) -> None:
    source.go.clear()
    with TestClient(create_app(source, Settings())) as client:
        assert client.get("/livez").status_code == 200
        for answer in (client.get("/readyz"), client.post("/v1/retrieve", json=BODY), client.get("/v1/info")):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:not-ready")
            assert answer.headers["Retry-After"] == "1"
        source.go.set()
        until(lambda: ready(client))


def test_what_cannot_be_loaded_is_kept_as_the_failure(source: Source, two: Path) -> None:
    (two / "CURRENT").unlink()
    app = create_app(source, Settings())
    with TestClient(app) as client:
        reloader = app.state.service.reloader
        until(lambda: reloader.failure is not None)
        assert client.get("/readyz").status_code == 503
    with pytest.raises(UdrError, match="no index here"):
        reloader.raise_failure()


class Closing:
    """A retriever that knows whether it was closed."""

    index_version = "v"

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def lent(retriever: Closing, lent: bool = False) -> ActiveVersion:
    return ActiveVersion(retriever, Words(), lent)  # type: ignore[arg-type]


def test_a_version_is_closed_after_its_last_request() -> None:
    current, before, after = Current(), Closing(), Closing()
    with pytest.raises(NotReadyError, match="loading"), current.lease():
        pass
    current.switch(lent(before))
    with current.lease() as outer:
        with current.lease():
            current.switch(lent(after))
            with current.lease() as newer:
                assert newer is not outer
        assert (before.closed, after.closed) == (0, 0)
    assert (before.closed, after.closed) == (1, 0)
    current.switch(None)
    assert (before.closed, after.closed) == (1, 1)


def test_what_is_lent_is_not_closed() -> None:
    current, mine = Current(), Closing()
    current.switch(lent(mine, lent=True))
    current.switch(None)
    assert mine.closed == 0
