"""Files and folders that are complete or absent."""

import errno
import fcntl
import multiprocessing
import os
import socket
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from udr.errors import ArtifactError, ConfigError, system_error
from udr.files import canonical_json, first_to_finish, locked, sha256, whole_folder, write_atomically


def test_write_atomically_keeps_the_old_file_if_writing_fails(tmp_path: Path) -> None:
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


def test_a_file_that_is_replaced_keeps_its_permissions_and_a_link_its_place(tmp_path: Path) -> None:
    path, link = tmp_path / "data" / "file", tmp_path / "link"
    path.parent.mkdir()
    link.symlink_to(path)
    # Through a link to no file yet, too.
    write_atomically(link, b"old")
    for mode in (0o600, 0o640, 0o666):
        path.chmod(mode)
        seen: list[int] = []

        def write(stream: BinaryIO, seen: list[int] = seen) -> None:
            seen.append(stat.S_IMODE(os.fstat(stream.fileno()).st_mode))
            stream.write(b"new")

        write_atomically(link, write)
        assert path.read_bytes() == b"new" and link.is_symlink()
        # Before there is any content, too.
        assert seen == [mode] == [stat.S_IMODE(path.stat().st_mode)]
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_file_that_is_replaced_keeps_its_owner_and_group_as_far_as_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a service can no longer read what root replaces."""
    path, asked = tmp_path / "file", list[tuple[int, int]]()
    write_atomically(path, b"old")
    if not os.geteuid():
        os.chown(path, 10001, 10002)
    before = path.stat()
    write_atomically(path, b"new")
    after = path.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)

    def refuse(stream: int, owner: int, group: int) -> None:
        asked.append((owner, group))
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    write_atomically(path, b"newer")
    # One by one: its group may be one of this user's, though the owner is another.
    assert asked == [(before.st_uid, -1), (-1, before.st_gid)] and path.read_bytes() == b"newer"


def test_a_link_to_a_read_only_file_is_refused(tmp_path: Path) -> None:
    """Caches of DVC and git-annex know their files by their content."""
    path, link = tmp_path / "cached", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o444)
    link.symlink_to(path)
    with pytest.raises(PermissionError, match=r"links to a read-only file; put a copy in the link's place: '.*/link'"):
        write_atomically(link, b"new")
    assert path.read_bytes() == b"old" and sorted(entry.name for entry in tmp_path.iterdir()) == ["cached", "link"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o444


def count(path: Path, times: int) -> None:
    """Add 1 to the number in a file, each time reading what the other processes wrote."""
    for _ in range(times):
        write_atomically(path, lambda stream: stream.write(b"%d" % (int(path.read_bytes()) + 1)))


def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    path, context = tmp_path / "count", multiprocessing.get_context("spawn")
    write_atomically(path, b"0")
    # As a killed writer leaves it.
    (tmp_path / ".count.tmp").write_bytes(b"longer than the number")
    processes = [context.Process(target=count, args=(path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert path.read_bytes() == b"100"
    assert [entry.name for entry in tmp_path.iterdir()] == ["count"]


def test_the_first_complete_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "folder"
    with first_to_finish(folder) as slow:
        (slow / "file").write_text("slow")
        with first_to_finish(folder) as fast:
            (fast / "file").write_text("fast")
    assert slow != fast and (folder / "file").read_text() == "fast"
    assert list(folder.parent.iterdir()) == [folder]


def test_canonical_json_sorts_keys_and_rejects_nan() -> None:
    assert canonical_json({"b": [1, 0.5, None], "a": "é"}) == '{"a":"é","b":[1,0.5,null]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as staging:
        (staging / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with whole_folder(folder) as staging:
        assert list(staging.iterdir()) == []
        (staging / "whole").touch()
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_in_the_making_is_nobody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    others = [tmp_path / name for name in ("folder.partial", "folder.old", ".folder.7-0123456", ".folder.7-01234567")]
    for path in others:
        path.mkdir()
        (path / "mine").touch()
        os.utime(path, (0, 0))
    with whole_folder(folder) as staging:
        (staging / "first").touch()
        with pytest.raises(OSError, match="not empty"), whole_folder(folder) as second:
            assert list(staging.iterdir())
            with whole_folder(folder) as third:
                (third / "third").touch()
            # Two that finish after another: the folder stays as it is.
        assert not second.exists()
        (folder / "third").unlink()
    assert [path.name for path in folder.iterdir()] == ["first"]
    # The last one is that of a process that was killed a day ago.
    assert sorted(tmp_path.iterdir()) == sorted([folder, *others[:3]])
    with first_to_finish(tmp_path / "other"):
        pass
    assert all((path / "mine").is_file() for path in others[:3])


def test_errors_name_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "none" / "folder"
    with pytest.raises(FileNotFoundError) as caught, whole_folder(folder):
        pass
    assert system_error(caught.value) == f"{folder}: No such file or directory; check the path"
    folder.parent.mkdir()
    with pytest.raises(FileNotFoundError) as caught, whole_folder(folder) as staging:
        (staging / "a" / "b").touch()
    assert system_error(caught.value).startswith(f"{folder}/a/b: No such file or directory")
    with pytest.raises(OSError, match="not empty") as taken, whole_folder(folder):
        (folder / "other").mkdir(parents=True)
    assert system_error(taken.value) == f"{folder}: Directory not empty"
    with pytest.raises(FileNotFoundError) as caught, first_to_finish(folder):
        (tmp_path / "x" / "y").touch()
    assert caught.value.filename == str(tmp_path / "x" / "y")


def hold(folder: Path, ready: Any, go: Any) -> None:
    with locked(folder):
        ready.set()
        go.wait(20)


def test_a_locked_folder_names_its_holder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "udr")
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, go))
    process.start()
    try:
        assert ready.wait(20)
        message = (
            rf"{tmp_path}: is in use by process {process.pid} on {socket.gethostname()} \(.*\); wait until it ends"
        )
        with pytest.raises(ArtifactError, match=message), locked(tmp_path, 0.1):
            pass
        assert caplog.messages == []
        with pytest.raises(ArtifactError, match=message), locked(tmp_path, 0.7):
            pass
        (notice,) = caplog.messages
        assert notice.startswith(f"{tmp_path}: is in use by process {process.pid}")
        assert notice.endswith("; waiting until it ends")
    finally:
        go.set()
        process.join(20)
    # A file that a killed process, or a copy of the folder, left behind is no lock.
    assert (tmp_path / ".lock").read_text("utf-8").startswith("process")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOTSUP, "its file system cannot lock files .*on a local disk")]
)
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match=message), locked(tmp_path):
        pass
    with pytest.raises(ConfigError, match="No such file or directory; check the path"), locked(tmp_path / "none"):
        pass
