"""Vectors reused from an earlier version: only those of unchanged texts, and only intact ones."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder, write_collection, write_task
from tests.index.builds import FailingEncoder, build_index, replace_once, tree, write_moods
from tests.udr.store.test_version import rewrite_manifest
from udr.errors import VerificationError
from udr.search import Vectors
from udr.store import (
    SearchSettings,
    approximate,
    open_version,
    read_settings,
    read_weights,
    vectors_path,
    verify,
    write_settings,
    write_weights,
)
from udr_index.build import PreviousVersion
from udr_index.versions import compare_vectors, publish


def test_only_changed_rows_are_encoded(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = write_collection(tmp_path / "tasks")
    replace_once(tasks / "mood/notes/train.jsonl", "fine", "good")
    replace_once(tasks / "topic/questions/train.jsonl", '"id": "q03"', '"id": "renamed"')
    encoder, closed = HashEncoder(), list[PreviousVersion]()
    monkeypatch.setattr(PreviousVersion, "close", lambda previous: closed.append(previous))

    built = build_index(tasks, tmp_path / "out", encoder, reuse=index, shard_rows=10)

    assert built.encoded == len(encoder.demonstrations) == 1 and "a good monday" in encoder.demonstrations[0]
    assert tree(built.path) == tree(build_index(tasks, tmp_path / "fresh").path)
    assert verify(tmp_path / "out") == [] and len(closed) == 1


def test_reuse_works_from_the_first_build_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tasks, out = write_collection(tmp_path / "tasks"), tmp_path / "out"
    assert build_index(tasks, out, reuse=out).encoded == 53
    assert "nothing to reuse" in caplog.text and "no index here" in caplog.text
    write_task(tasks, {**NOTES, "instruction": "Say how the writer feels."})

    assert build_index(tasks, out, reuse=out).encoded == 20


def test_what_was_measured_is_kept_where_it_applies(copy: Path, tmp_path: Path) -> None:
    tasks, old = write_collection(tmp_path / "tasks"), open_version(copy)
    replace_once(tasks / "mood/notes/train.jsonl", "fine", "good")
    write_weights(old.path, old.manifest, {"notes": 0.3, "questions": 0.8})
    for options, weights in (
        ({"bm25": True}, {"notes": 0.3, "questions": 0.8}),
        ({"bm25": True, "names": ("notes",)}, {"notes": 0.3}),
        ({"bm25": False}, {}),
    ):
        out = tmp_path / f"out-{len(weights)}"
        build_index(tasks, out, reuse=copy, **options)
        new = open_version(out)
        assert new.manifest.version != old.manifest.version
        assert read_weights(new.path, new.manifest) == weights and verify(out) == []


def test_a_build_of_a_version_of_before_gets_what_was_measured_since(tmp_path: Path) -> None:
    tasks, out = write_collection(tmp_path / "tasks"), tmp_path / "out"
    first = build_index(tasks, out, bm25=True).version
    old = open_version(out)
    write_weights(old.path, old.manifest, {"questions": 0.9, "notes": 0.1})
    replace_once(tasks / "mood/notes/train.jsonl", "fine", "good")
    build_index(tasks, out, bm25=True)
    new = open_version(out)
    write_weights(new.path, new.manifest, {"notes": 0.3})
    replace_once(tasks / "mood/notes/train.jsonl", "good", "fine")

    assert build_index(tasks, out, bm25=True, reuse=out).version == first

    assert read_weights(old.path, old.manifest) == {"questions": 0.9, "notes": 0.3} and verify(out) == []
    # What the version itself was measured at since is newer than what another has of before.
    write_weights(old.path, old.manifest, {"notes": 0.5})
    publish(out, new.manifest.version)
    assert build_index(tasks, out, bm25=True, reuse=out).version == first
    assert read_weights(old.path, old.manifest) == {"notes": 0.5}


def test_weights_are_kept_if_the_label_head_stays_or_stays_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = write_moods(tmp_path / "tasks")
    for before, after in product([False, True], repeat=2):
        old_index, out = tmp_path / f"{before}", tmp_path / f"{before}-{after}"
        build_index(tasks, old_index, bm25=True, label_head=before)
        old = open_version(old_index)
        write_weights(old.path, old.manifest, {"notes": 0.3})
        caplog.clear()
        build_index(tasks, out, bm25=True, label_head=after, reuse=old_index)
        new = open_version(out)
        assert read_weights(new.path, new.manifest) == ({"notes": 0.3} if before is after else {})
        told = "came or went: notes; for tasks without a head now, run: udr feedback weigh RUN INDEX" in caplog.text
        assert told is (before is not after)


def test_search_settings_are_kept_if_the_kind_is_the_same(
    collection: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_index(collection, tmp_path / "old", kind="IVF2,Flat")
    old, measured = open_version(tmp_path / "old"), SearchSettings(parameters="nprobe=2", oversample=3)
    write_settings(old.path, old.manifest, dict.fromkeys(approximate(old.manifest), measured))
    for kind, warned in (("IVF2,Flat", False), ("IVF3,Flat", True)):
        out = tmp_path / kind
        build_index(collection, out, reuse=tmp_path / "old", kind=kind, dtype="float32", names=("notes",))
        new = open_version(out)
        assert (read_settings(new.path, new.manifest)["notes"] == measured) is not warned
        assert ("of another kind than before: notes; measure them: udr index bench" in caplog.text) is warned


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder": HashEncoder(salt="other")}, "was built by encoder 'fake-hash' with other weights"),
        ({"dtype": "float16"}, "holds float32"),
    ],
)
def test_vectors_that_do_not_fit_are_encoded_with_a_warning(
    collection: Path, index: Path, tmp_path: Path, changes: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert build_index(collection, tmp_path, reuse=index, **changes).encoded == 53
    assert f"nothing to reuse: {index} {reason}" in caplog.text


def test_index_of_an_older_format_is_not_reused(
    collection: Path, copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite_manifest(copy, format=3)

    assert build_index(collection, tmp_path, reuse=copy).encoded == 53
    assert "the index has format 3, but this udr reads formats 4 to 5; run: udr index build" in caplog.text


class NoisyEncoder(HashEncoder):
    """The same encoder on another device: its vectors are a little longer."""

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        return super().encode_demonstrations(texts) * np.float32(1 + 1e-3)


def test_vectors_of_two_versions_are_not_mixed(collection: Path, tmp_path: Path) -> None:
    first = build_index(collection, tmp_path / "a", names=("questions",), pool=12)
    second = build_index(collection, tmp_path / "b", NoisyEncoder(), names=("questions",), pool=12)
    assert first.version == second.version
    changes: dict[str, Any] = {"names": ("questions",), "shard_rows": 8}
    with pytest.raises(MemoryError):
        build_index(collection, tmp_path / "out", FailingEncoder(2), reuse=tmp_path / "a", **changes)

    build_index(collection, tmp_path / "out", NoisyEncoder(), reuse=tmp_path / "b", **changes)

    lengths = np.linalg.norm(open_version(tmp_path / "out").vectors("questions"), axis=1)
    assert np.allclose(lengths, 1 + 1e-3, atol=1e-5)


def test_damaged_version_is_not_reused(collection: Path, copy: Path, tmp_path: Path) -> None:
    path = open_version(copy).path / vectors_path("notes")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(VerificationError, match=r"vectors\.npy: is altered.*; build without --reuse"):
        build_index(collection, tmp_path / "out", pool=3, reuse=copy)


def test_vectors_are_compared_with_the_encoder(copy: Path) -> None:
    version = open_version(copy)
    assert list(compare_vectors(version, HashEncoder(), 1000)) == []
    path = version.path / vectors_path("notes")
    vectors = np.load(path)
    vectors[3] = -vectors[3]
    # A difference as small as this may come from another device or batch.
    vectors[4] *= 1.001
    np.save(path, vectors)

    (finding,) = compare_vectors(version, HashEncoder(), 1000)

    id = version.demonstrations().ids("notes", [3])[0]
    assert str(finding) == (
        f"partitions/notes/vectors.npy: 1 of 20 vectors differ from the encoder's output, such as {id!r}"
    )
