"""Replicas: services over one index on a remote store, which follow what is published there."""

import asyncio
import shutil
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.waiting import until
from udr.errors import ArtifactError, ConfigError, StoreError
from udr.files import RemoteFolder, locked
from udr.store import RemoteIndex, open_version, read_current, read_weights, search_digest, write_weights
from udr.store.live import WriteLog
from udr_index.build import BuildConfig, build
from udr_index.versions import publish, upload
from udr_service import Settings, create_app
from udr_service.serving import IndexSource, Mirror

BODY = {"task": "notes", "input": "a dull day", "k": 3}


def test_replicas_follow_what_is_published_at_the_common_place(
    tiny: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # In memory, fsspec gives all readers of a file one position.
    url = f"file://{tmp_path}/store/index"
    first = upload(tiny, "CURRENT", url).version
    model = open_version(tiny).path / "model"
    second = build(
        BuildConfig(tasks=collection, out=tmp_path / "second", model=str(model), names=("notes",), export=False)
    ).version
    upload(tmp_path / "second", second, url)
    publish(Path(url), first)
    settings = Settings(device="cpu", watch_seconds=0.05)
    with ExitStack() as stack:
        replicas: list[TestClient] = []
        for name in "ab":
            # As two machines, which share nothing but the store.
            monkeypatch.setenv("UDR_CACHE", str(tmp_path / name))
            source = IndexSource(Path(url), settings)
            replicas.append(stack.enter_context(TestClient(create_app(source, settings))))
            until(lambda: replicas[-1].get("/readyz").status_code == 200)
        assert [replica.post("/v1/retrieve", json=BODY).json()["index_version"] for replica in replicas] == [first] * 2
        write = {"input": {"text": "a grey friday"}, "target": "sad"}
        refused = replicas[0].put("/v1/tasks/notes/demonstrations/new", json=write)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:udr:problem:not-writer")
        publish(Path(url), second)
        for replica in replicas:
            until(lambda: replica.post("/v1/retrieve", json=BODY).json()["index_version"] == second)  # noqa: B023
        other = open_version(tmp_path / "second")
        write_weights(other.path, other.manifest, {"notes": 0.2})
        upload(tmp_path / "second", second, url)
        digest = search_digest(other.path, other.manifest)
        for replica in replicas:
            until(lambda: replica.get("/v1/info").json()["search_digest"] == digest)  # noqa: B023
        # A store that does not answer costs nothing but news.
        current = tmp_path / "store" / "index" / "CURRENT"
        content = current.read_bytes()
        current.unlink()
        until(lambda: "no index here (no file CURRENT)" in caplog.text)
        assert [replica.post("/v1/retrieve", json=BODY).status_code for replica in replicas] == [200, 200]
        RemoteFolder(url).replace("CURRENT", content, None)
        publish(Path(url), first)
        for replica in replicas:
            until(lambda: replica.post("/v1/retrieve", json=BODY).json()["index_version"] == first)  # noqa: B023
    assert read_current(tiny) == first


def test_a_replica_starts_from_its_copy_while_the_store_does_not_answer(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, settings = f"memory://{tmp_path.name}/index", Settings(device="cpu", watch_seconds=0.05)
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    upload(tiny, "CURRENT", url)
    version = RemoteIndex(url).fetch()

    def silent(*_: object) -> None:
        raise StoreError("the store does not answer")

    with monkeypatch.context() as patch:
        for name in ("read", "state"):
            patch.setattr(RemoteFolder, name, silent)
        assert IndexSource(Path(url), settings).current() == version
        with TestClient(create_app(IndexSource(Path(url), settings), settings)) as replica:
            until(lambda: replica.get("/readyz").status_code == 200)
            assert (
                f"starting with version {version}, the last that was copied to this machine: the store" in caplog.text
            )
            # Once it has started, it says that it gets no news.
            assert replica.post("/v1/admin/reload").status_code == 409
        with pytest.raises(StoreError):
            IndexSource(Path(f"{url}-too"), settings).current()
        # A store that answers that there is no index is believed.
        patch.setattr(RemoteFolder, "read", lambda *_: None)
        patch.setattr(RemoteFolder, "state", lambda *_: None)
        with pytest.raises(ArtifactError, match="no index here"):
            IndexSource(Path(url), settings).current()


def test_a_replica_looks_for_news_while_another_process_works_in_its_copy(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root, seen = f"memory://{tmp_path.name}/index", tmp_path / "index", list[str]()
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tiny, root, ignore=shutil.ignore_patterns("live"))
    remote, version = RemoteIndex(url), open_version(root)
    upload(root, "CURRENT", url)
    copy = remote.root / "versions" / remote.fetch()
    write_weights(version.path, version.manifest, {"notes": 0.2})
    upload(root, "CURRENT", url)
    source = IndexSource(Path(url), Settings())
    with locked(remote.root):
        looking = threading.Thread(target=lambda: seen.append(source.current()), daemon=True)
        looking.start()
        looking.join(10)
        assert seen == [version.manifest.version]
        assert read_weights(copy, version.manifest) == {"notes": 0.2}


@pytest.mark.parametrize("store", ["disk", "s3"])
def test_replicas_see_what_is_written_to_the_mirrored_directory(
    store: str,
    tiny: Path,
    tmp_path: Path,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = bucket if store == "s3" else f"file://{tmp_path}/store"
    url, root = f"{place}/index", tmp_path / "index"
    shutil.copytree(tiny, root, ignore=shutil.ignore_patterns("live"))
    upload(root, "CURRENT", url)
    with ExitStack() as stack:
        monkeypatch.setenv("UDR_CACHE", str(tmp_path / "writer"))
        settings = Settings(device="cpu", mirror=url)
        writer = stack.enter_context(TestClient(create_app(IndexSource(root, settings), settings)))
        until(lambda: writer.get("/readyz").status_code == 200)
        path = "/v1/tasks/notes/demonstrations/new"

        def write(text: str) -> None:
            assert writer.put(path, json={"input": {"text": text}, "target": "sad"}).status_code in (200, 201)

        write("a grey friday")
        replicas: list[TestClient] = []
        for name in "ab":
            monkeypatch.setenv("UDR_CACHE", str(tmp_path / name))
            settings = Settings(device="cpu", watch_seconds=0.3)
            replicas.append(stack.enter_context(TestClient(create_app(IndexSource(Path(url), settings), settings))))
        for replica in replicas:
            until(lambda: replica.get(path).status_code == 200)  # noqa: B023
        write("a grey sunday")
        for replica in replicas:
            until(lambda: replica.get(path).json()["input"] == {"text": "a grey sunday"})  # noqa: B023
        nearest = {**BODY, "k": 20}
        answers = [each.post("/v1/retrieve", json=nearest).json() for each in (writer, *replicas)]
        assert answers[0] == answers[1] == answers[2] and "a grey sunday" in str(answers[0])
        assert writer.delete(path).status_code == 204
        for replica in replicas:
            until(lambda: replica.get(path).status_code == 404)  # noqa: B023
        # A store that refuses costs the writer nothing, and is told once.
        with monkeypatch.context() as patch:
            patch.setattr(RemoteFolder, "put", _refuse)
            write("a grey monday")
            until(lambda: "does not reach the replicas" in caplog.text)
        assert 'udr_upkeep_failures_total{part="mirror"} 0.0' not in writer.get("/metrics").text
        for replica in replicas:
            until(lambda: replica.get(path).status_code == 200)  # noqa: B023


def test_mirror_goes_on_after_errors_and_copies_what_was_written_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, log, source = f"memory://{tmp_path.name}/index", tmp_path / "live" / "log", IndexSource(tmp_path, Settings())
    log.parent.mkdir()
    log.symlink_to("log")
    mirror = Mirror(source, url)

    def write(content: bytes) -> None:
        with closing(WriteLog(log.parent)) as own, own.alone():
            own.read()
            own.append([content])

    async def run() -> None:
        task = asyncio.create_task(mirror.run())
        await asyncio.to_thread(until, lambda: "Too many levels of symbolic links" in caplog.text)
        log.unlink()
        write(b"first")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert RemoteFolder(url).read("live/log", 100) == (first := log.read_bytes()) != b""
    write(b"last")
    whole = log.read_bytes()
    # What is damaged goes no further.
    log.write_bytes(whole[:60] + b"x" + whole[61:])
    Mirror(source, url).copy_last()
    assert RemoteFolder(url).read("live/log", 200) == first and "checksum" in caplog.messages[-1]
    log.write_bytes(whole)
    Mirror(source, url).copy_last()
    assert RemoteFolder(url).read("live/log", 200) == whole


def test_mirror_does_not_hold_up_the_end_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(WriteLog(tmp_path / "live")) as log, log.alone():
        log.append([b"last"])
    answers = threading.Event()
    monkeypatch.setattr(RemoteFolder, "put", lambda *_: answers.wait(60))
    mirror = Mirror(IndexSource(tmp_path, Settings()), "memory://silent", last_seconds=0.05)
    mirror.copy_last()
    answers.set()
    assert "what was written last does not reach the replicas before this service starts again" in caplog.text


def _refuse(self: RemoteFolder, name: str, path: Path) -> None:
    raise ArtifactError(f"{self.url}: no")


def test_only_a_directory_is_mirrored(tiny: Path) -> None:
    for mirror in ("elsewhere", "/tmp/elsewhere"):
        settings = Settings(device="cpu", mirror=mirror)
        with pytest.raises(ConfigError, match="--mirror copies from an index directory to a URL"):
            create_app(IndexSource(tiny, settings), settings)
