"""Old versions are pruned; publish and prune may be killed at any step, and the index stays intact."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import build_index, start_python, tree
from tests.index.versions.conftest import POOLS, is_intact, truncate, used, versions_in, write_leftovers
from udr.errors import ArtifactError, ConfigError, UdrError, VerificationError
from udr.retrieval import Retriever
from udr.store import read_current, verify
from udr_index.versions import list_versions, prune, publish


def test_newest_versions_are_kept(root: Path, names: list[str], collection: Path) -> None:
    before, files = used(root), tree(root / "versions" / names[0])

    assert prune(root, 99).versions == prune(root, 3).versions == ()
    pruned = prune(root, 2)

    assert [info.name for info in pruned.versions] == [names[0]]
    assert [info.name for info in pruned.kept] == [names[2], names[1]]
    assert pruned.leftovers == ()
    assert before - used(root) == pruned.freed_bytes > 0
    assert versions_in(root) == {names[1], names[2]} and is_intact(root)
    assert tree(build_index(collection, root, pool=POOLS[0]).path) == files


def test_current_version_is_never_deleted(root: Path, names: list[str]) -> None:
    publish(root, names[0])

    assert [info.name for info in prune(root, 2).versions] == [names[1]]
    assert [info.name for info in prune(root, 1).versions] == [names[2]]
    assert versions_in(root) == {names[0]} and is_intact(root)


def test_readable_versions_are_kept_before_unreadable_ones(root: Path, names: list[str]) -> None:
    (root / "versions" / names[1] / "manifest.json").unlink()
    os.utime(root / "versions" / names[1], (86_400 * 9, 86_400 * 9))

    assert [info.name for info in prune(root, 2).versions] == [names[1]]
    assert versions_in(root) == {names[0], names[2]} and verify(root) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_is_deleted_while_the_current_version_is_damaged(root: Path, names: list[str], dry_run: bool) -> None:
    truncate(root, names[2])

    with pytest.raises(VerificationError, match=r"is current and damaged, so nothing was deleted: demo.*publish anoth"):
        prune(root, 1, dry_run=dry_run)
    assert versions_in(root) == set(names)
    publish(root, names[0])
    assert [info.name for info in prune(root, 2, dry_run=dry_run).versions] == [names[1]]


def test_leftovers_of_killed_commands_are_deleted(root: Path, names: list[str]) -> None:
    # They are of a version that is deleted too, so all of them are renamed to one name.
    leftovers, before, files = write_leftovers(root, names[0]), used(root), tree(root)
    expected = prune(root, 2, dry_run=True)
    assert tree(root) == files

    pruned = prune(root, 2)

    assert pruned == expected and list(pruned.leftovers) == leftovers
    assert before - used(root) == pruned.freed_bytes
    assert {path.name for path in root.iterdir()} - {".lock"} == {"CURRENT", "versions"}
    assert versions_in(root) == {names[1], names[2]}


def test_files_that_versions_share_are_counted_once(root: Path, names: list[str], tmp_path: Path) -> None:
    oldest, old, new = (root / "versions" / name for name in names)
    (old / "weights").write_bytes(bytes(1000))
    for copy in (old / "again", oldest / "weights"):
        os.link(old / "weights", copy)
    sizes = {info.name: info.size_bytes for info in list_versions(root)}
    assert sizes == {names[2]: used(new), names[1]: used(old) - 1000, names[0]: used(oldest) - 1000}
    # So does a link elsewhere.
    os.link(oldest / "demonstrations.sqlite", tmp_path / "kept")
    freed = used(oldest) - 1000 - (tmp_path / "kept").stat().st_size
    assert prune(root, 2, dry_run=True).freed_bytes == freed
    # Without the other version, nobody else has the first file.
    freed += used(old) - 1000
    assert prune(root, 1).freed_bytes == freed


def test_link_is_deleted_without_its_target(root: Path, names: list[str], tmp_path: Path) -> None:
    target = Path(shutil.move(root / "versions" / names[0], tmp_path / names[0]))
    (root / "versions" / names[0]).symlink_to(target)
    before = tree(target)

    pruned = prune(root, 2)

    assert [info.name for info in pruned.versions] == [names[0]] and pruned.freed_bytes < 200
    assert (versions_in(root), tree(target)) == ({names[1], names[2]}, before)


REFUSED: dict[str, tuple[int, Callable[[Path], object], type[UdrError], str]] = {
    "keep none": (0, lambda root: None, ConfigError, "at least 1 version must be kept, found 0"),
    "CURRENT missing": (1, lambda root: (root / "CURRENT").unlink(), ArtifactError, "no file CURRENT"),
    "CURRENT altered": (1, lambda root: (root / "CURRENT").write_bytes(b"x"), VerificationError, "CURRENT: is altered"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_prune_deletes_nothing(root: Path, name: str) -> None:
    keep, change, kind, message = REFUSED[name]
    change(root)

    with pytest.raises(kind, match=message):
        prune(root, keep)
    assert len(versions_in(root)) == 3


def test_reader_of_a_deleted_version_still_answers(root: Path, names: list[str]) -> None:
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        before = retriever.retrieve("notes", "a fine day", 5)
        publish(root, names[0])
        prune(root, 1)
        assert versions_in(root) == {names[0]}

        assert retriever.retrieve("notes", "a fine day", 5) == before
        assert retriever.retrieve("questions", "Where is the lake?", 5).index_version == names[2]


KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from udr_index.versions import list_versions, prune, publish

original, out, version = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def kill_before(step):
    steps = itertools.count(1)
    def counted(call):
        def call_or_die(*arguments, **keywords):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)
        return call_or_die
    for name in ("replace", "rename", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))

for step in itertools.count(1):
    root = Path(shutil.copytree(original, out / f"{step:03}"))
    child = os.fork()
    if not child:
        kill_before(step)
        publish(root, version) if version else prune(root, 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
"""


def kill_at_every_step(root: Path, out: Path, version: str = "") -> list[Path]:
    """Publish a version, or prune, killed before each step in turn, and return the resulting indexes in that order."""
    out.mkdir()
    with start_python(KILLED, root, out, version) as process:
        assert process.wait() == 0
    return sorted(out.iterdir())


def test_killed_publish_leaves_the_old_version_or_the_new(root: Path, names: list[str], tmp_path: Path) -> None:
    results = kill_at_every_step(root, tmp_path / "results", names[0])

    assert len(results) >= 4
    current = [read_current(result) for result in results]
    switch = current.index(names[0])
    assert 0 < switch and set(current[:switch]) == {names[2]} and set(current[switch:]) == {names[0]}
    for result in results:
        assert is_intact(result)
        publish(result, names[0])
        assert read_current(result) == names[0] and is_intact(result)


def test_killed_prune_leaves_whole_versions_and_the_next_finishes(root: Path, names: list[str], tmp_path: Path) -> None:
    publish(root, names[1])
    prune(root, 2)
    write_leftovers(root, names[2])
    files = tree(root)

    results = kill_at_every_step(root, tmp_path / "results")

    assert len(results) >= 30
    for result in results:
        assert read_current(result) == names[1] and is_intact(result)
        # Neither a version nor a build that could resume is there in part.
        for folder in (*result.glob("versions/*"), *result.glob(".building-*")):
            name = folder.relative_to(result).as_posix()
            expected = {path: data for path, data in files.items() if path.startswith(f"{name}/")}
            assert {f"{name}/{path}": data for path, data in tree(folder).items()} == expected
        prune(result, 1)
        assert versions_in(result) == {names[1]} and verify(result) == []
        assert {path.name for path in result.iterdir()} - {".lock"} == {"CURRENT", "versions"}
