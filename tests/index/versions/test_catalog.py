"""Versions of an index are listed, found by name, and published."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import tree
from tests.index.versions.conftest import is_intact, truncate, used, versions_in
from tests.udr.store.test_version import rewrite_manifest
from udr.errors import ArtifactError, VerificationError
from udr.files import locked
from udr.retrieval import Retriever
from udr.store import Manifest, read_current, read_manifest
from udr_index.versions import diff_versions, find_version, list_versions, prune, publish


def test_versions_are_listed_newest_first(root: Path) -> None:
    infos = list_versions(root)

    assert [info.num_rows for info in infos] == [45, 30, 15]
    assert infos[0].sizes == {"notes": 15, "questions": 15, "reviews": 15}
    assert [info.name for info in infos if info.is_current] == [infos[0].name] == [read_current(root)]
    assert [info.changed_seconds for info in infos] == [86_400 * 3, 86_400 * 2, 86_400]
    assert all(info.size_bytes == used(root / "versions" / info.name) for info in infos)
    assert {(info.encoder, info.problem) for info in infos} == {("fake-hash", None)}
    for path in (root / "versions").iterdir():
        os.utime(path / "manifest.json", (1, 1))
    same_time = [info.name for info in list_versions(root)]
    assert same_time == sorted(same_time)


def test_unreadable_versions_are_listed_with_their_problem(root: Path, names: list[str]) -> None:
    manifest = root / "versions" / names[1] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"fake-hash", b"fake-hush"))
    (root / "versions" / names[0] / "manifest.json").unlink()

    infos = {info.name: info for info in list_versions(root)}

    assert infos[names[2]].problem is None
    assert infos[names[1]].problem == "manifest.json: the manifest is altered: it does not match its own checksum"
    assert str(infos[names[0]].problem).startswith("manifest.json: cannot be read (No such file or directory)")
    assert (infos[names[0]].encoder, infos[names[0]].num_rows) == (None, 0)


def test_version_deleted_meanwhile_is_not_listed(root: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def delete_first(folder: Path) -> Manifest:
        if folder.name == names[0]:
            shutil.rmtree(folder)
        return read_manifest(folder)

    monkeypatch.setattr("udr_index.versions.catalog.read_manifest", delete_first)

    assert [info.name for info in list_versions(root)] == [names[2], names[1]]


def test_other_files_are_neither_listed_nor_pruned(root: Path) -> None:
    (root / "versions" / "backup").mkdir()
    (root / "versions" / "0123456789abcdef").write_bytes(b"")

    assert len(list_versions(root)) == 3
    prune(root, 1)
    assert versions_in(root) == {"backup", "0123456789abcdef", read_current(root)}


def test_publishing_an_older_version_rolls_back(root: Path, names: list[str]) -> None:
    before = tree(root / "versions")

    published = publish(root, names[0])

    assert (published.version, published.previous) == (names[0], names[2])
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        assert retriever.index_version == names[0]
    assert tree(root / "versions") == before and is_intact(root)
    assert publish(root, names[2]).previous == names[0]


def test_publishing_the_current_version_changes_nothing(root: Path, names: list[str]) -> None:
    before = (root / "CURRENT").stat()

    for name in (names[2], "CURRENT"):
        published = publish(root, name)
        assert published.version == published.previous == names[2]

    after = (root / "CURRENT").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", [b"", b"0123456789abcdef\n", None], ids=["altered", "no such version", "missing"])
def test_publishing_repairs_current(root: Path, names: list[str], content: bytes | None) -> None:
    (root / "CURRENT").unlink()
    if content is not None:
        (root / "CURRENT").write_bytes(content)
    assert not any(info.is_current for info in list_versions(root))

    published = publish(root, names[1])

    assert (published.version, published.previous) == (names[1], None)
    assert is_intact(root)


def test_unusable_versions_are_not_published(root: Path, names: list[str]) -> None:
    truncate(root, names[0])
    rewrite_manifest(root, wording="0123456789abcdef")

    with pytest.raises(VerificationError, match=r"damaged and was not published: demonstrations.sqlite: is truncated"):
        publish(root, names[0])
    with pytest.raises(ArtifactError, match=r"was built with wording 0123456789abcdef, but"):
        publish(root, names[2])
    assert read_current(root) == names[2]


def test_version_is_found_by_a_unique_prefix(root: Path, names: list[str]) -> None:
    for name in names:
        assert find_version(root, name) == find_version(root, name[:12]) == name
    assert find_version(root, "CURRENT") == names[2]
    prefix = names[0][:15]
    (root / "versions" / f"{prefix}{'0' if names[0][15] != '0' else '1'}").mkdir()
    with pytest.raises(ArtifactError, match=rf"'{prefix}' is ambiguous: it matches {prefix}., .*give more of the name"):
        find_version(root, prefix)
    for unknown in ("nope", "", "current", names[1].upper() + "x"):
        with pytest.raises(ArtifactError, match=rf"no version '{unknown}'; the versions are: .*{names[1]}"):
            find_version(root, unknown)


COMMANDS: dict[str, Callable[[Path], object]] = {
    "list": list_versions,
    "diff": lambda root: diff_versions(root, list_versions(root)[1].name, "CURRENT"),
    "publish": lambda root: publish(root, "CURRENT"),
    "prune": lambda root: prune(root, 1),
    "dry run": lambda root: prune(root, 1, dry_run=True),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_index_is_not_created(tmp_path: Path, command: str) -> None:
    with pytest.raises(ArtifactError, match=r"none: no index here \(no folder versions\); run: udr index build"):
        COMMANDS[command](tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_only_commands_that_write_need_the_lock(root: Path, command: str) -> None:
    before = tree(root)

    with locked(root):
        if command in ("list", "diff"):
            COMMANDS[command](root)
        else:
            with pytest.raises(ArtifactError, match=r"is in use by process"):
                COMMANDS[command](root)
    assert tree(root) == before
