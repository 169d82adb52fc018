"""Builds that fail or are killed: the published version stays, and the next build resumes at the last full shard."""

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from tests.index.builds import FailingEncoder, build_index, tree
from udr.search import Vectors
from udr.store import open_version, verify
from udr_index.build import BuildConfig, Progress, build, build_partition, show_progress


def fail(collection: Path, out: Path) -> None:
    """Build notes as one shard of 20, and fail at the third of the shards of questions: 10, 10 and 4 rows."""
    with pytest.raises(MemoryError):
        build_index(collection, out, FailingEncoder(5), shard_rows=10)


def test_build_resumes_at_the_last_full_shard(collection: Path, tmp_path: Path, index: Path) -> None:
    fail(collection, tmp_path)
    (staging,) = tmp_path.glob(".building-*")
    # Files that a kill may leave half written.
    for name in (".manifest.json.tmp", "demonstrations.sqlite", "partitions/questions/shards/.000000020-24.npy.tmp"):
        (staging / name).write_bytes(b"half")

    encoder, progress = HashEncoder(), list[Progress]()
    built = build(BuildConfig(tasks=collection, out=tmp_path, shard_rows=10, bm25=False), encoder, progress.append)

    assert built.encoded == len(encoder.demonstrations) == 4 + 9
    assert not any("Note:" in text for text in encoder.demonstrations)
    assert tree(built.path) == tree(index / "versions" / built.version)
    encoded = [item for item in progress if item.stage == "encoded"]
    assert [(item.done, item.total) for item in encoded] == [(done, 62) for done in (0, 20, 30, 40, 44, 53, 54, 62)]
    assert [item.rate is None for item in encoded] == [True] * 4 + [False] * 4
    assert verify(tmp_path) == []


@pytest.mark.parametrize("shard_rows", [5, 15, 4096])
def test_build_resumes_with_shards_of_another_size(
    collection: Path, tmp_path: Path, index: Path, shard_rows: int
) -> None:
    fail(collection, tmp_path)

    built = build_index(collection, tmp_path, shard_rows=shard_rows)

    assert tree(built.path) == tree(index / "versions" / built.version)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((9, 48), np.float32), np.zeros((10, 48), np.float16), None],
    ids=["other rows", "other dtype", "broken"],
)
def test_wrong_shard_is_encoded_again(collection: Path, tmp_path: Path, index: Path, wrong: Vectors | None) -> None:
    fail(collection, tmp_path)
    (shard,) = tmp_path.glob(".building-*/partitions/questions/shards/000000010-*")
    shard.write_bytes(b"\x93NUMPY half")
    if wrong is not None:
        np.save(shard, wrong)

    built = build_index(collection, tmp_path, shard_rows=10)

    assert built.encoded == 10 + 4 + 9
    assert tree(built.path) == tree(index / "versions" / built.version)


def test_shards_are_read_with_few_open_files(tmp_path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {"id": f"{number:03}", "input": {"text": f"word {number % 100}"}, "target": "glad"} for number in range(300)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
    try:
        built = build_index(tmp_path / "tasks", tmp_path / "out", shard_rows=100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert built.encoded == 100
    vectors = open_version(tmp_path / "out").vectors("notes")
    assert np.array_equal(vectors[:100], vectors[200:])


def test_stages_are_shown_with_their_rate(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Progress] = []
    build(BuildConfig(tasks=collection, out=tmp_path / "out"), HashEncoder(), seen.append)
    encoded = [progress for progress in seen if progress.stage == "encoded"]
    # A stage is told when it begins, so that a terminal shows it.
    assert (encoded[0].done, encoded[0].rate) == (0, None)
    last = encoded[-1]
    # Nine texts occur twice, and are encoded once.
    assert (last.done, last.total, last.reused) == (62, 62, 9)
    assert last.rate == pytest.approx((62 - 9) / last.seconds)

    show_progress(Progress(stage="fitted", done=2000, total=2000, rate=500.0, seconds=4.0))
    assert capsys.readouterr().err == "udr: fitting label heads: 2,000/2,000 texts in 4 s, 500 texts/s\n"


def test_other_kind_keeps_the_vectors_and_the_same_kind_the_indexes(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, fails = list[str](), True

    def failing(path: Path, kind: str, *arguments: Any) -> None:
        if fails and len(kinds) == 2:
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise MemoryError
        kinds.append(kind)
        build_partition(path, kind, *arguments)

    monkeypatch.setattr("udr_index.build.staging.build_partition", failing)
    for name in ("other", "same"):
        with pytest.raises(MemoryError):
            build_index(collection, tmp_path / name, kind="IVF2,Flat")
        kinds.clear()
    fails = False

    other = build_index(collection, tmp_path / "other", kind="HNSW8")
    same = build_index(collection, tmp_path / "same", kind="IVF2,Flat")

    assert (other.encoded, same.encoded, kinds) == (0, 0, ["HNSW8"] * 3 + ["IVF2,Flat"])
    for built, kind in ((other, "HNSW8"), (same, "IVF2,Flat")):
        assert tree(built.path) == tree(build_index(collection, tmp_path / kind, kind=kind).path)
    assert verify(tmp_path / "same") == []
