"""Verification: it finds any change to any file of an index."""

import shutil
from pathlib import Path

import pytest

from tests.udr.store.test_version import version
from udr.errors import VerificationError
from udr.store import read_current, verify, verifying


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def test_verify_finds_any_change_to_any_file(copy: Path) -> None:
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


def test_verify_checks_all_versions_but_no_leftovers_of_builds(copy: Path) -> None:
    for name in (".lock", ".CURRENT.tmp"):
        (copy / name).write_bytes(b"")
    (copy / ".building-0123456789abcdef" / "partitions").mkdir(parents=True)
    assert verify(copy) == []
    (copy / "versions" / "0123456789abcdef").mkdir()
    assert [str(finding) for finding in verify(copy)] == [
        "versions/0123456789abcdef/manifest.json: cannot be read (No such file or directory); the version is incomplete"
    ]


def test_verify_names_the_problem(copy: Path) -> None:
    rows, vectors = version(copy) / "demonstrations.sqlite", version(copy) / "partitions/notes/vectors.npy"
    rows.write_bytes(flip(rows.read_bytes()))
    vectors.write_bytes(vectors.read_bytes()[:100])
    shutil.rmtree(vectors.parent.parent / "questions")
    problems = [finding.problem.split()[:2] for finding in verify(copy)]
    assert problems == [["is", "altered:"], ["is", "truncated:"], ["is", "missing"]]


def test_verify_reports_unreadable_files(copy: Path, tmp_path: Path) -> None:
    (finding,) = verify(tmp_path / "nowhere")
    assert str(finding) == f".: no such folder as {tmp_path / 'nowhere'}"
    manifest = version(copy) / "manifest.json"
    for path in (manifest, copy / "CURRENT"):
        path.unlink()
        path.mkdir()
    assert {finding.path for finding in verify(copy)} == {"CURRENT", f"versions/{manifest.parent.name}/manifest.json"}


def test_damage_is_raised_in_place_of_what_a_block_made_of_it(copy: Path) -> None:
    folder = version(copy)
    with pytest.raises(KeyError), verifying(folder):
        raise KeyError("not of damage")
    path = folder / "manifest.json"
    damaged = next(each for each in sorted(folder.rglob("*")) if each.is_file() and each != path)
    damaged.write_bytes(flip(damaged.read_bytes()))
    with pytest.raises(VerificationError, match="is damaged"), verifying(folder):
        raise KeyError("of damage")
