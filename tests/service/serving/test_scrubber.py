"""A served file that is truncated or overwritten: the service says so, and answers again once it is whole."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder, write_mapped_notes
from tests.service.conftest import BODY, Source, served
from tests.service.running import serving
from tests.udr.store.test_version import rewrite_manifest
from tests.waiting import until
from udr.errors import ArtifactError, ModelError
from udr.retrieval import Retriever
from udr.store import EncoderStamp, open_version, read_current
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_index.versions.live import compact
from udr_service import Settings, create_app
from udr_service.observability import Metrics
from udr_service.serving import IndexSource, OpenFiles

NAMES = ["partitions/notes/vectors.npy", "demonstrations.sqlite", "partitions/notes/bm25/texts.npy"]


@pytest.fixture
def index(collection: Path, tmp_path: Path) -> Path:
    build(BuildConfig(tasks=collection, out=tmp_path / "index", bm25=True), HashEncoder())
    return tmp_path / "index"


@pytest.fixture
def client(index: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Source(index), Settings(scrub_seconds=0.02))) as client:
        until(lambda: client.get("/readyz").is_success)
        yield client


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def zero(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, zero])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named_until_it_is_whole_again(
    client: TestClient, index: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], name: str
) -> None:
    path = open_version(index).path / name
    content = path.read_bytes()

    damage(path)
    until(lambda: name in client.get("/readyz").text)
    for answer in (client.get("/readyz"), client.post("/v1/retrieve", json=BODY)):
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:udr:problem:index-damaged"
        assert f"the index is damaged: {name}" in answer.json()["detail"]
    time.sleep(0.1)
    assert client.get("/livez").is_success
    assert len([line for line in caplog.messages if "damaged" in line]) == 1

    path.write_bytes(content)
    until(lambda: client.get("/readyz").is_success)
    assert client.post("/v1/retrieve", json=BODY).json()["demonstrations"]


def test_another_version_takes_over(client: TestClient, index: Path, collection: Path) -> None:
    damaged = read_current(index)
    truncate(open_version(index).path / NAMES[0])
    until(lambda: client.get("/readyz").status_code == 503)
    build(BuildConfig(tasks=collection, out=index, pool=9), HashEncoder())
    until(lambda: client.get("/readyz").is_success)
    assert client.get("/v1/info").json()["index_version"] == read_current(index) != damaged


def test_deleted_and_replaced_files_are_still_whole_for_the_service(client: TestClient, index: Path) -> None:
    folder = open_version(index).path
    (folder / NAMES[0]).unlink()
    (folder / "replaced").write_bytes(b"other")
    (folder / "replaced").rename(folder / NAMES[1])
    time.sleep(0.1)
    assert client.get("/readyz").is_success
    assert client.post("/v1/retrieve", json=BODY).is_success


@pytest.mark.parametrize(("name", "mode"), [(NAMES[0], "dense"), (NAMES[2], "bm25")])
def test_a_search_never_reads_beyond_the_end_of_a_file(tmp_path: Path, index: Path, name: str, mode: str) -> None:
    write_mapped_notes(tmp_path / "tasks")
    build(BuildConfig(tasks=tmp_path / "tasks", out=index, bm25=True), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as retriever, served(retriever, scrub_seconds=0) as client:
        assert client.post("/v1/retrieve", json={**BODY, "mode": mode}).is_success
        truncate(retriever.path / name)
        answer = client.post("/v1/retrieve", json={**BODY, "mode": mode})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:index-damaged")
        assert str(index) not in answer.text


def test_a_log_of_writes_that_cannot_be_read_is_named_in_the_log(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Retriever.open(index, encoder=HashEncoder()) as retriever, served(retriever) as client:
        retriever.put("notes", {"id": "new", "input": {"text": "new"}, "target": "sad"})
        log = index / "live/log"
        log.rename(index / "kept")
        log.mkdir()
        for answer in (client.get("/readyz"), client.post("/v1/retrieve", json=BODY)):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:index-damaged")
            assert str(index) not in answer.text
        assert [line for line in caplog.messages if str(log) in line]
        log.rmdir()
        (index / "kept").rename(log)
        assert client.get("/readyz").is_success and client.post("/v1/retrieve", json=BODY).is_success


def test_a_log_of_writes_that_is_altered_in_place_is_named(client: TestClient, index: Path) -> None:
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        retriever.put("notes", {"id": "new", "input": {"text": "new"}, "target": "sad"})
    row, log = "/v1/tasks/notes/demonstrations/new", index / "live/log"
    assert client.get(row).is_success
    content = log.read_bytes()
    log.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    until(lambda: client.get(row).status_code == 503)
    told = client.get("/readyz").json()["detail"]
    assert "damaged: live/log: the record at byte 32 has another checksum" in told and str(index) not in told
    log.write_bytes(content)
    until(lambda: client.get(row).is_success)


def test_a_version_that_lacks_what_was_forgotten_gives_way(
    client: TestClient, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Path(shutil.copytree(index, index.parent / "other"))
    with Retriever.open(other, encoder=HashEncoder()) as retriever:
        retriever.put("notes", {"id": "new", "input": {"text": "new"}, "target": "sad"})
        retriever.delete("notes", "n00")
    version = compact(other, HashEncoder(), forget=True).version
    # As if all of it had happened between two looks.
    shutil.copytree(other / "versions" / version, index / "versions" / version)
    (index / "CURRENT").write_text(f"{version}\n")
    (index / "live").mkdir(exist_ok=True)
    (other / "live/log").replace(index / "live/log")
    until(lambda: client.post("/v1/retrieve", json=BODY).headers.get("X-Udr-Index-Version") == version)
    rows = client.get("/v1/tasks/notes/demonstrations?limit=1000").json()["demonstrations"]
    assert "new" in (ids := [row["id"] for row in rows]) and "n00" not in ids
    assert [line for line in caplog.messages if f"version {version} answers now" in line and "was emptied" in line]


def test_of_many_small_files_few_are_opened_at_a_look(index: Path) -> None:
    version = open_version(index)
    name, stamp = next(iter(version.manifest.files.items()))
    copies = {f"{number}": stamp for number in range(500)}
    for copy in copies:
        os.link(version.path / name, version.path / copy)
    (version.path / "499").unlink()
    # Of the same size, so that only reading it tells.
    (version.path / "499").write_bytes(bytes(stamp.size))
    files = OpenFiles(version.path, copies)
    looks = [files.look() for _ in range(20)]
    assert looks[:5] == [None] * 5 and "499 is altered" in looks


def test_checksums_are_read_little_by_little_whatever_the_time_of_writing(index: Path) -> None:
    version = open_version(index)
    files = OpenFiles(version.path, version.manifest.files)
    assert files.look() is None and files.untouched()
    path = version.path / NAMES[0]
    times = path.stat()
    zero(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files.look() == f"{NAMES[0]} is altered"
    os.utime(path)
    assert not files.untouched()


def test_a_version_that_is_published_again_is_opened_again_only_if_it_was_damaged(
    index: Path,
) -> None:
    source, version = Source(index), read_current(index)
    with TestClient(create_app(source, Settings(scrub_seconds=0.02))) as client:
        until(lambda: client.get("/readyz").is_success)
        publish(index, version)
        answer = client.post("/v1/admin/reload").json()
        assert answer["index_version"] == answer["previous"] == version
        assert len(source.opened) == 1

        path = open_version(index).path / NAMES[0]
        content = path.read_bytes()
        truncate(path)
        until(lambda: client.get("/readyz").status_code == 503)
        # Another file in its place, as from a backup, is not the one that is open.
        path.unlink()
        path.write_bytes(content)
        assert client.post("/v1/admin/reload").json()["index_version"] == version
        assert len(source.opened) == 2 and client.get("/readyz").is_success


def test_udr_serve_survives_a_truncated_file(tiny: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(tiny, tmp_path / "index"))
    path = open_version(index).path / NAMES[0]
    content = path.read_bytes()
    with serving(str(index), UDR_SCRUB_SECONDS="0.1") as (process, address):
        assert httpx2.post(f"{address}/v1/retrieve", json=BODY, timeout=30).is_success
        truncate(path)
        until(lambda: NAMES[0] in httpx2.get(f"{address}/readyz", timeout=30).text)
        assert httpx2.post(f"{address}/v1/retrieve", json=BODY, timeout=30).status_code == 503
        assert process.poll() is None
        path.write_bytes(content)
        until(lambda: httpx2.get(f"{address}/readyz", timeout=30).is_success)
        assert httpx2.post(f"{address}/v1/retrieve", json=BODY, timeout=30).is_success
        # A crash leaves a trace.
        process.send_signal(signal.SIGBUS)
        process.wait()
        assert process.stderr is not None and "Fatal Python error: Bus error" in process.stderr.read()


def test_a_disk_that_fails_is_damage_and_a_closed_file_is_not(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = open_version(index)
    files = OpenFiles(version.path, version.manifest.files)

    def failing(error: OSError) -> Callable[..., None]:
        def open(*_: object) -> None:
            raise error

        return open

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing(PermissionError(13, "Permission denied")))
        assert files.look() is None
        patch.setattr(Path, "open", failing(OSError(5, "Input/output error")))
        assert files.look() == "a file cannot be read (Input/output error)"
    assert files.look() is None


def test_a_hub_name_is_served_only_if_it_is_allowed(index: Path) -> None:
    rewrite_manifest(index, encoder={**asdict(EncoderStamp.of(HashEncoder())), "name": "someone/model"})
    with pytest.raises(ArtifactError, match="pass --allow-hub"):
        IndexSource(index, Settings()).load(Metrics([]))
    with pytest.raises(ModelError, match="someone/model"):
        IndexSource(index, Settings(allow_hub=True)).load(Metrics([]))
