"""The files of an open version: whether they are still as they were when they were opened."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from udr.files import sha256
from udr.store import CURRENT, LIVE, FileStamp
from udr.store.live import LOG

READ_BYTES = 8 * 1024 * 1024
"""How much of the checksums is read at each look."""

_OPENING_BYTES = 128 * 1024
"""What opening a file counts as, which takes as long: an index of many tasks has thousands of small files."""

_CHUNK = 1024 * 1024
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""Errors that say nothing about a file: the system has no more to give."""

_UNSEEN = (FileNotFoundError, NotADirectoryError, PermissionError)
"""Errors of a file that was deleted, moved or closed to others; who has it open still reads it."""


class OpenFiles:
    """The files of an open version, as they were when it was opened; used by one thread at a time.

    A file that has been deleted or replaced since is still whole for who has it open, so it is not looked at.

    Args:
        folder: the folder of the version.
        stamps: the size and checksum of each file, by its path there.
    """

    def __init__(self, folder: Path, stamps: Mapping[str, FileStamp]) -> None:
        self._folder, self._stamps = folder, stamps
        # As text, since thousands are looked at every second.
        self._paths = {name: os.path.join(folder, name) for name in stamps}
        self._opened = {name: _state(path) for name, path in self._paths.items()}
        self._reading = self._read()

    def look(self) -> str | None:
        """Compare every size, and a part of the checksums; return what is damaged, or None."""
        try:
            problem = next(filter(None, (self._changed(name, stamp) for name, stamp in self._stamps.items())), None)
            read = 0
            while problem is None and read < READ_BYTES:
                count, problem = next(self._reading)
                read += count
        except OSError as error:
            # An error ends a generator.
            self._reading = self._read()
            # Else the disk fails.
            return None if error.errno in _EXHAUSTED else f"a file cannot be read ({error.strerror})"
        return problem

    def untouched(self) -> bool:
        """Return whether no file has been written to or replaced; all may have been deleted."""
        return all(_state(self._paths[name]) in (None, before) for name, before in self._opened.items())

    def states(self) -> tuple[object, ...]:
        """Return what changes when a file, the published version or what was written does."""
        root = self._folder.parent.parent
        return tuple(map(_state, [str(root / CURRENT), str(root / LIVE / LOG), *self._paths.values()]))

    def _changed(self, name: str, stamp: FileStamp) -> str | None:
        """Return what is wrong with a file's size, or with its content if it was written to."""
        before, now = self._opened[name], _state(self._paths[name])
        if before is None or now is None or before[:2] != now[:2]:
            return None
        size, written = now[2:]
        if size != stamp.size:
            return f"{name} has {size} bytes, the manifest says {stamp.size}"
        if written == before[3]:
            return None
        if sha256(self._folder / name) != stamp.sha256:
            return f"{name} is altered"
        self._opened[name] = now
        return None

    def _read(self) -> Iterator[tuple[int, str | None]]:
        """Yield, endlessly, how many bytes were read, and the problem of a file that was read to its end."""
        while True:
            for name, stamp in self._stamps.items():
                yield _OPENING_BYTES, None
                before, digest = self._opened[name], hashlib.sha256()
                with suppress(*_UNSEEN), (self._folder / name).open("rb") as stream:
                    found = os.fstat(stream.fileno())
                    if before is None or before[:2] != (found.st_dev, found.st_ino):
                        continue
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        yield len(chunk), None
                    if digest.hexdigest() != stamp.sha256:
                        yield 0, f"{name} is altered"
            # A small index is read once a look.
            yield READ_BYTES, None


def _state(path: str) -> tuple[int, int, int, int] | None:
    """Return a file's device, inode, size and time of writing; None if there is none."""
    try:
        state = os.stat(path)
    except _UNSEEN:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
