"""Verification: whatever happens to any file of an index is found, and said."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from udr.store import open_version, read_current, verify


def version(root: Path) -> Path:
    return root / "versions" / read_current(root)


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
