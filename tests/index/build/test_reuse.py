"""Vectors taken over from an earlier version: only those of texts that are read the same, and only good ones."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder, write_collection, write_task
from tests.index.build.test_builder import FailingEncoder, tree
from udr.errors import VerificationError
from udr.search import Vectors
from udr.store import open_version, vectors_path, verify
from udr_index.build import BuildConfig, PreviousVersion, build
from udr_index.versions import compare_vectors


def change(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")


def test_only_what_changed_is_encoded_again(index: Path, tmp_path: Path) -> None:
    root = write_collection(tmp_path / "tasks")
    change(root, "mood/notes/train.jsonl", "fine", "good")
    change(root, "topic/questions/train.jsonl", '"id": "q03"', '"id": "renamed"')
    encoder = HashEncoder()

    built = build(BuildConfig(tasks=root, out=tmp_path / "out", reuse=index, shard_rows=10), encoder)

    assert built.encoded == len(encoder.demonstrations) == 1 and "a good monday" in encoder.demonstrations[0]
    fresh = build(BuildConfig(tasks=root, out=tmp_path / "fresh"), HashEncoder())
    assert tree(built.path) == tree(fresh.path)
    assert verify(tmp_path / "out") == []


def test_the_same_command_serves_the_first_build_and_every_later_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_collection(tmp_path / "tasks")
    config = BuildConfig(tasks=root, out=tmp_path / "out", reuse=tmp_path / "out")
    assert build(config, HashEncoder()).encoded == 53
    assert "nothing to take over" in caplog.text and "no index here" in caplog.text
    write_task(root, {**NOTES, "instruction": "Say how the writer feels."})

    assert build(config, HashEncoder()).encoded == 20


@pytest.mark.parametrize(
    ("changes", "encoder", "why"),
    [
        ({}, HashEncoder(salt="other"), "was built by encoder 'fake-hash' with other weights"),
        ({"dtype": "float16"}, HashEncoder(), "holds float32"),
    ],
)
def test_what_cannot_be_taken_over_is_told_and_encoded(
    collection: Path,
    index: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    encoder: HashEncoder,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    built = build(BuildConfig(tasks=collection, out=tmp_path, reuse=index, **changes), encoder)
    assert built.encoded == 53
    assert f"nothing to take over: {index}" in caplog.text and why in caplog.text


class Noisy(HashEncoder):
    """The same encoder on another device: its vectors are a little longer."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        return super().encode_demonstrations(texts) * np.float32(1 + self.more)


def test_vectors_of_two_earlier_versions_are_not_mixed(collection: Path, tmp_path: Path) -> None:
    previous = BuildConfig(tasks=collection, out=tmp_path / "a", names=("questions",), pool=12)
    versions = {build(previous, Noisy(0)).version, build(replace(previous, out=tmp_path / "b"), Noisy(1e-3)).version}
    assert len(versions) == 1
    config = replace(previous, out=tmp_path / "out", pool=None, shard_rows=8, reuse=tmp_path / "a")
    with pytest.raises(MemoryError):
        build(config, FailingEncoder(2))

    build(replace(config, reuse=tmp_path / "b"), Noisy(1e-3))

    lengths = np.linalg.norm(open_version(tmp_path / "out").vectors("questions"), axis=1)
    assert np.allclose(lengths, 1 + 1e-3, atol=1e-5)


def test_the_earlier_version_is_closed_after_the_build(
    collection: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = list[PreviousVersion]()
    monkeypatch.setattr(PreviousVersion, "close", lambda previous: closed.append(previous))

    build(BuildConfig(tasks=collection, out=tmp_path, pool=3, reuse=index), HashEncoder())

    assert len(closed) == 1


def test_vectors_of_a_damaged_version_are_not_taken_for_good(collection: Path, copy: Path, tmp_path: Path) -> None:
    path = open_version(copy).path / vectors_path("notes")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(VerificationError, match=r"vectors\.npy: is altered.*; build without --reuse"):
        build(BuildConfig(tasks=collection, out=tmp_path / "out", pool=3, reuse=copy), HashEncoder())


def test_a_sample_of_vectors_is_compared_with_the_encoder(copy: Path) -> None:
    version = open_version(copy)
    assert list(compare_vectors(version, HashEncoder(), 1000)) == []
    path = version.path / vectors_path("notes")
    vectors = np.load(path)
    vectors[3] = -vectors[3]
    # Less than this is what another device or another batch may give.
    vectors[4] *= 1.001
    np.save(path, vectors)

    (finding,) = compare_vectors(version, HashEncoder(), 1000)

    id = version.demonstrations().ids("notes", [3])[0]
    assert (finding.path, finding.problem) == (
        "partitions/notes/vectors.npy",
        f"1 of 20 vectors are not what the encoder gives now, as those of {id!r}",
    )
    assert json.dumps(finding.problem)
