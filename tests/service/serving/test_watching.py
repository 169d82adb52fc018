"""Watching for versions, which nothing ends, and reloads, whose keys hold whatever becomes of the version."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import BODY, Source, on_event_loop
from tests.service.observability.test_audit import lines
from tests.service.serving.test_reloader import is_ready, reweigh, source, versions
from tests.waiting import until
from udr.errors import ConfigError, UdrError
from udr.store import version_path
from udr_index.versions import publish
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key
from udr_service.observability import Audit, Metrics
from udr_service.serving import ActiveVersion, Current, Reloader, Worker

__all__ = ["source", "versions"]


class Failing:
    """A source that fails a given number of times, and counts the calls."""

    def __init__(self, source: Source) -> None:
        self.source, self.index = source, source.index
        self.looking: Exception | None = None
        self.loading: Exception | None = None
        self.looks, self.loads = 0, list[float]()

    def current(self) -> str:
        self.looks += 1
        if self.looking:
            raise self.looking
        return self.source.current()

    def load(self, metrics: object, name: str | None = None) -> ActiveVersion:
        self.loads.append(time.monotonic())
        if self.loading:
            raise self.loading
        return self.source.load(metrics)


@pytest.fixture
def failing(source: Source) -> Failing:
    return Failing(source)


@pytest.fixture
def watching(failing: Failing) -> Iterator[TestClient]:
    with TestClient(create_app(failing, Settings(watch_seconds=0.01))) as client:
        until(lambda: is_ready(client))
        yield client


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line["why"] for line in lines(caplog) if line["event"] == "reload_refused"]


def version(client: TestClient) -> str:
    return str(client.get("/v1/info").json()["index_version"])


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), RuntimeError("?"), MemoryError()], ids=str)
def test_no_error_ends_watching_and_each_is_told_once(
    watching: TestClient, failing: Failing, versions: list[str], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing.looking, before = error, failing.looks
    until(lambda: failing.looks > before + 10)
    told = [record for record in caplog.records if record.message == "reload refused"]
    assert len(told) == 1 and told[0].exc_info and told[0].exc_info[1] is error
    publish(failing.index, versions[0])
    failing.looking = None
    until(lambda: version(watching) == versions[0])
    events = [line["event"] for line in lines(caplog)]
    assert events == ["reload_refused", "published", "reloaded"]
    reloaded = lines(caplog)[-1]
    assert [reloaded[name] for name in ("by", "previous", "index_version")] == ["watch", versions[1], versions[0]]


def test_a_refused_version_is_tried_again_in_pauses_that_double(
    watching: TestClient, failing: Failing, versions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    failing.loading = ConfigError("damaged")
    publish(failing.index, versions[0])
    until(lambda: len(failing.loads) == 6)
    pauses = [after - before for before, after in zip(failing.loads[1:], failing.loads[2:], strict=False)]
    assert all(pause >= 0.01 * 2**n for n, pause in enumerate(pauses)), pauses
    assert refusals(caplog) == ["damaged"]
    assert version(watching) == versions[1]
    failing.loading = None
    until(lambda: version(watching) == versions[0])


@pytest.mark.parametrize("what", ["looking", "loading"])
def test_a_key_is_revoked_although_the_version_cannot_be_opened_and_invalid_keys_change_nothing(
    failing: Failing, versions: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    path = tmp_path / "keys.toml"
    ops, entry = new_key("ops", Scope.ADMIN)
    append(path, entry)
    without = path.read_text()
    leaked, added = new_key("leaked", Scope.READ)
    append(path, added)
    with TestClient(create_app(failing, Settings(keys=path)), headers={"X-Api-Key": ops}) as client:
        until(lambda: is_ready(client))

        def status() -> int:
            return client.post("/v1/retrieve", json=BODY, headers={"X-Api-Key": leaked}).status_code

        publish(failing.index, versions[0])
        # The version is sound, the keys are not.
        path.write_text("[[keys]")
        refused = client.post("/v1/admin/reload")
        assert refused.status_code == 409 and refused.json()["detail"].endswith(f"{versions[1]} still answers")
        assert status() == 200 and version(client) == versions[1]
        # The other way about.
        path.write_text(without)
        setattr(failing, what, ConfigError("no version"))
        refused = client.post("/v1/admin/reload")
        assert refused.status_code == 409 and status() == 401 and version(client) == versions[1]
        assert refused.json()["detail"] == (
            f"no version; version {versions[1]} still answers, and the keys are those that their file has now"
        )
        setattr(failing, what, None)
        assert client.post("/v1/admin/reload").is_success and version(client) == versions[0]
    by_event = {line["event"]: line for line in lines(caplog)}
    assert set(by_event) == {"published", "reload_refused", "unknown_key", "keys", "reloaded"}
    assert (by_event["keys"]["removed"], by_event["keys"]["number"]) == (["leaked"], 1)
    for event in ("keys", "reloaded", "reload_refused"):
        assert (by_event[event]["by"], by_event[event]["client"]) == ("the key ops", "testclient")
    assert ops[4:] not in str(by_event) and leaked[4:] not in str(by_event)


def test_a_key_is_revoked_while_a_version_takes_long_to_open(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    ops, entry = new_key("ops", Scope.ADMIN)
    append(path, entry)
    leaked, added = new_key("leaked", Scope.READ)
    append(path, added)
    app = create_app(source, Settings(keys=path))
    with TestClient(app, headers={"X-Api-Key": ops}) as client, ThreadPoolExecutor(2) as threads:
        until(lambda: is_ready(client))
        reweigh(source.index, 0.5)
        source.go.clear()
        reloads = [threads.submit(client.post, "/v1/admin/reload")]
        path.write_text(entry.to_toml())
        reloads.append(threads.submit(client.post, "/v1/admin/reload"))
        until(lambda: client.get("/v1/tasks", headers={"X-Api-Key": leaked}).status_code == 401)
        assert not any(each.done() for each in reloads)
        source.go.set()
        assert all(each.result().is_success for each in reloads)


def test_a_damaged_file_of_search_settings_keeps_no_revoked_key_valid(
    source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    ops, entry = new_key("ops", Scope.ADMIN)
    append(path, entry)
    without = path.read_text()
    old, added = new_key("old", Scope.READ)
    append(path, added)
    with TestClient(create_app(source, Settings(keys=path)), headers={"X-Api-Key": ops}) as client:
        until(lambda: is_ready(client))

        def status() -> int:
            return client.post("/v1/retrieve", json=BODY, headers={"X-Api-Key": old}).status_code

        assert status() == 200
        path.write_text(without)
        (version_path(source.index, source.current()) / "search.json").write_text("{}")
        assert client.post("/v1/admin/reload").is_success and status() == 401
    assert "keeps the search settings that it has" in caplog.text and "search.json: is altered" in caplog.text


@on_event_loop
async def test_steps_take_effect_before_a_version_and_in_their_order(failing: Failing, versions: list[str]) -> None:
    worker, done = Worker(queue_size=8, batch_size=8, batch_tokens=1000), list[str | None]()
    current = Current()
    reloader = Reloader(failing, current, worker, None, Metrics([]), Audit())
    await reloader.load()

    def invalid() -> None:
        raise ConfigError("no certificate")

    async def tell() -> None:
        done.append("told")

    reloader.steps += [lambda: done.append(current.version), invalid]
    # The others are told although this reload fails: they have to revoke keys, too.
    reloader.tell = tell
    publish(failing.index, versions[0])
    with pytest.raises(UdrError, match=f"no certificate; version {versions[1]} still answers"):
        await reloader.reload()
    assert len(failing.loads) == 1
    reloader.steps.remove(invalid)
    await reloader.reload()
    assert done == [versions[1], "told"] * 2 and current.version == versions[0]
    worker.close()
    current.switch(None)


@on_event_loop
async def test_a_refusal_is_logged_although_its_client_hung_up(
    failing: Failing, versions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(queue_size=8, batch_size=8, batch_tokens=1000)
    current = Current()
    reloader = Reloader(failing, current, worker, None, Metrics([]), Audit())
    await reloader.load()
    publish(failing.index, versions[0])
    failing.source.go.clear()
    reload = asyncio.ensure_future(reloader.reload("the key ops", "10.0.0.1"))
    while len(failing.loads) < 2:
        await asyncio.sleep(0.01)
    reload.cancel()
    await asyncio.wait([reload])
    failing.source.index = Path("nowhere")
    failing.source.go.set()
    while not refusals(caplog):
        await asyncio.sleep(0.01)
    assert "no index here" in refusals(caplog)[0]
    assert [lines(caplog)[-1][name] for name in ("by", "client")] == ["the key ops", "10.0.0.1"]
    worker.close()
    current.switch(None)
