"""The index on disk: what is written comes back; what is missing, altered or foreign is refused by name."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import QUESTIONS
from udr.demonstrations import DemonstrationTable, copy_key, write_demonstrations
from udr.errors import ArtifactError, VerificationError
from udr.files import canonical_json, sha256, write_atomically
from udr.manifest import parse_manifest, seal
from udr.pool import Pool
from udr.store import open_version, read_current
from udr.tasks import parse_task
from udr.types import Json, Row
from udr.verification import verify

TASK = parse_task(QUESTIONS)


@pytest.fixture
def copy(index: Path, tmp_path: Path) -> Path:
    """A copy of the index that a test may spoil."""
    return Path(shutil.copytree(index, tmp_path / "index"))


def version(root: Path) -> Path:
    return root / "versions" / read_current(root)


def rewrite_manifest(root: Path, **changes: Json) -> None:
    """Change keys of the manifest and seal it again, as another udr would have written it."""
    path = version(root) / "manifest.json"
    keys = json.loads(path.read_bytes())
    del keys["sha256"]
    path.write_bytes(seal({**keys, **changes}))


# Files


def test_write_atomically_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(stream: object) -> None:
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"

    write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert sha256(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_canonical_json_is_the_same_for_equal_values() -> None:
    assert canonical_json({"b": [1, 0.5, None], "a": "é"}) == canonical_json({"a": "é", "b": [1, 0.5, None]})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


# Demonstrations

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Anything but halves of surrogate pairs, which readers refuse.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(question=values, metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=3))
def test_rows_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, question: str, metadata: dict[str, Json]
) -> None:
    row = Row(id="\0 ' {x}", input={"question": question}, target="place", references=("a", "b"), metadata=metadata)
    path = tmp_path_factory.mktemp("rows") / "demonstrations.sqlite"
    write_demonstrations(path, [Pool(TASK, (row,))])

    table = DemonstrationTable(path)

    assert table.rows("questions", [0]) == [row]
    assert table.row("questions", row.id) == row
    assert list(table.rows("questions", [0])[0].metadata) == list(metadata)
    table.close()


def rows(count: int) -> Pool:
    return Pool(TASK, tuple(Row(id=f"{n:03}", input={"question": f"Q {n}?"}, target="place") for n in range(count)))


def test_the_same_pools_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    other.write_bytes(b"what a killed build left")
    for path in (one, other):
        write_demonstrations(path, [rows(300)])

    assert one.read_bytes() == other.read_bytes()


def test_rows_are_found_by_position_id_and_copy_from_several_threads(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "d", [rows(100)])
    table = DemonstrationTable(tmp_path / "d")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: table.ids("questions", [n, 99, 0]), range(100)))

    assert found == [[f"{n:03}", "099", "000"] for n in range(100)]
    assert table.copies("questions", [copy_key("question q-7"), copy_key("Question: q 8 ?!")]) == {"007", "008"}
    assert table.copies("other", [copy_key("question q-7")]) == set()
    assert table.row("questions", "100") is None
    with pytest.raises(ArtifactError, match="has no row at position 100"):
        table.ids("questions", [100])
    table.close()


def test_the_table_is_never_written_to(tmp_path: Path) -> None:
    write_demonstrations(tmp_path / "d", [rows(1)])
    table = DemonstrationTable(tmp_path / "d")

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        table._connection.execute("DELETE FROM demonstrations")
    table.close()


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"not a database, but long enough to look at" * 100)

    with pytest.raises(ArtifactError, match="no-file: cannot be read"):
        DemonstrationTable(tmp_path / "no-file")
    table = DemonstrationTable(tmp_path / "junk")
    with pytest.raises(ArtifactError, match=r"junk: cannot be read \(file is not a database\)"):
        table.row("questions", "1")
    table.close()


# Opening a version


def test_a_version_gives_back_what_was_built(index: Path) -> None:
    opened = open_version(index)

    assert parse_manifest(opened.manifest.to_bytes()) == opened.manifest
    assert (opened.path / "manifest.json").read_bytes() == opened.manifest.to_bytes()
    assert opened.model == "fake-hash"
    assert opened.manifest.partitions["questions"].task == TASK
    vectors = opened.vectors("questions")
    assert vectors.shape == (24, 48)
    assert vectors.dtype == np.float32
    assert not vectors.flags.writeable
    assert verify(index) == []


def spoil_current(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "CURRENT").write_bytes(content)


REFUSED: dict[str, tuple[Callable[[Path], object], type[ArtifactError], str]] = {
    "CURRENT missing": (lambda root: (root / "CURRENT").unlink(), ArtifactError, "there is no CURRENT file"),
    "CURRENT empty": (spoil_current(b""), VerificationError, "CURRENT: is altered"),
    "CURRENT without newline": (spoil_current(b"0123456789abcdef"), VerificationError, "CURRENT: is altered"),
    "CURRENT leading elsewhere": (spoil_current(b"../../../../etc/\n"), VerificationError, "CURRENT: is altered"),
    "CURRENT binary": (spoil_current(b"\xff\0"), VerificationError, "CURRENT: is altered"),
    "CURRENT naming no version": (
        spoil_current(b"0123456789abcdef\n"),
        ArtifactError,
        "names version 0123456789abcdef, but .* does not exist",
    ),
    "manifest missing": (
        lambda root: (version(root) / "manifest.json").unlink(),
        ArtifactError,
        "manifest.json: cannot be read .*incomplete",
    ),
    "manifest not JSON": (
        lambda root: (version(root) / "manifest.json").write_bytes(b"{\xff"),
        VerificationError,
        "manifest.json: the manifest is altered: it is not a JSON object",
    ),
    "manifest a list": (
        lambda root: (version(root) / "manifest.json").write_bytes(b"[]"),
        VerificationError,
        "it is not a JSON object",
    ),
    "manifest of another version": (
        lambda root: rewrite_manifest(root, version="0123456789abcdef"),
        VerificationError,
        "is of version 0123456789abcdef, but lies in",
    ),
    "another format": (
        lambda root: rewrite_manifest(root, format=2),
        ArtifactError,
        "has format 2, this udr reads format 1; run: udr index build",
    ),
    "another wording": (
        lambda root: rewrite_manifest(root, wording="0123456789abcdef"),
        ArtifactError,
        "built with wording 0123456789abcdef, this udr words .*run: udr index build",
    ),
    "a part missing": (
        lambda root: rewrite_manifest(root, tasks={"questions": {"count": 1}}),
        ArtifactError,
        "manifest lacks a part",
    ),
    "a part of the wrong kind": (lambda root: rewrite_manifest(root, files=[]), ArtifactError, "wrong kind"),
    "rows missing": (
        lambda root: (version(root) / "demonstrations.sqlite").unlink(),
        VerificationError,
        "demonstrations.sqlite: is missing",
    ),
    "vectors truncated": (
        lambda root: (version(root) / "partitions/notes/vectors.npy").write_bytes(b"x"),
        VerificationError,
        "vectors.npy: has 1 bytes, the manifest says",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_open_refuses_and_verify_reports(copy: Path, name: str) -> None:
    spoil, kind, message = REFUSED[name]
    spoil(copy)

    with pytest.raises(kind, match=message) as caught:
        open_version(copy)
    assert "\n" not in str(caught.value)
    if name != "another wording":
        # A version that another udr made is whole, though this one cannot use it.
        assert len(verify(copy)) == 1


def test_a_byte_changed_anywhere_in_the_manifest_is_refused(copy: Path) -> None:
    path = version(copy) / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        with pytest.raises(VerificationError):
            parse_manifest(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(VerificationError):
        parse_manifest(data[:-1])


def test_vectors_of_another_shape_or_with_objects_are_refused(copy: Path) -> None:
    opened = open_version(copy)
    path = opened.path / "partitions/notes/vectors.npy"

    for array, message in (
        (np.zeros((3, 48), np.float32), r"must be float32 \[20, 48\], found float32 \[3, 48\]"),
        (np.zeros((20, 48)), "found float64"),
        (np.array([object()]), "cannot be read"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(ArtifactError, match=message):
            opened.vectors("notes")
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be read"):
        opened.vectors("notes")


# Verification


def flip(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_verify_finds_whatever_happens_to_any_file(copy: Path) -> None:
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != ".lock"]
    assert len(files) == 6
    for path in files:
        data, name = path.read_bytes(), path.relative_to(copy).as_posix()
        for changed in (flip(data), data[:-1], data + b"\0", b"", None):
            if changed is None:
                path.unlink()
            else:
                path.write_bytes(changed)
            assert [finding.path for finding in verify(copy)] == [name], (name, changed)
        path.write_bytes(data)
        assert verify(copy) == []


@pytest.mark.parametrize(
    "name",
    ["extra", "versions/extra", "versions/{}/extra", "versions/{}/partitions/notes/.hidden", "versions/{}/model/x"],
)
def test_verify_finds_extra_files(copy: Path, name: str) -> None:
    path = copy / name.format(read_current(copy))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")

    (finding,) = verify(copy)

    assert finding.path == path.relative_to(copy).as_posix()
    assert "does not belong" in finding.problem


def test_verify_looks_at_versions_that_are_not_current(copy: Path) -> None:
    (copy / "versions" / "0123456789abcdef").mkdir()

    assert [str(finding) for finding in verify(copy)] == [
        "versions/0123456789abcdef/manifest.json: cannot be read (No such file or directory); the version is incomplete"
    ]


def test_verify_says_what_happened(copy: Path) -> None:
    rows_file, vectors = version(copy) / "demonstrations.sqlite", version(copy) / "partitions/notes/vectors.npy"
    rows_file.write_bytes(flip(rows_file.read_bytes()))
    vectors.write_bytes(vectors.read_bytes()[:100])
    shutil.rmtree(vectors.parent.parent / "questions")

    problems = [finding.problem.split()[:2] for finding in verify(copy)]

    assert problems == [["is", "altered:"], ["is", "truncated:"], ["is", "missing"]]


def test_verify_survives_anything(copy: Path, tmp_path: Path) -> None:
    (finding,) = verify(tmp_path / "nowhere")
    assert str(finding) == f".: no such folder as {tmp_path / 'nowhere'}"
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert len(verify(file)) == 1
    manifest = version(copy) / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    (copy / "CURRENT").unlink()
    (copy / "CURRENT").mkdir()
    assert {finding.path for finding in verify(copy)} == {"CURRENT", f"versions/{manifest.parent.name}/manifest.json"}


def test_what_builders_leave_behind_is_no_finding(copy: Path) -> None:
    for name in (".lock", ".CURRENT.tmp"):
        (copy / name).write_bytes(b"")
    (copy / ".building-0123456789abcdef" / "partitions").mkdir(parents=True)

    assert verify(copy) == []


def test_equal_manifests_give_equal_bytes(index: Path) -> None:
    manifest = open_version(index).manifest
    turned = replace(manifest, partitions=dict(reversed(list(manifest.partitions.items()))))

    assert turned.to_bytes() == manifest.to_bytes()
