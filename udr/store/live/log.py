"""The log of writes: one file, appended to by one process at a time, and followed by any number."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from udr.errors import StorageError, VerificationError, system_error
from udr.files import open_lock, write_atomically
from udr.store.live.records import HEAD_BYTES, DamagedRecordError, Head, Place, decode, encode, scan
from udr.store.untrusted import refuse_outside

LOG = "log"
_COMMIT = ".commit"

Durability = Literal["disk", "system"]
"""When a write is acknowledged: once it is on the disk, or once the operating system has it, which a power failure may
lose, but not the death of the process."""

DURABILITIES: tuple[Durability, ...] = get_args(Durability)

Entry = tuple[int, bytes]
"""The position of a record, and its content."""

_LOG = logging.getLogger(__name__)
_SETTLE_SECONDS = 0.02
"""How long to wait before records that do not fit are read again: another process may have been cutting them off."""


class WriteLog:
    """The log in a folder, as far as this process has read it. Not thread-safe.

    Args:
        folder: the folder ``live`` of an index directory; it need not exist.
        name: the name of the file.

    Attributes:
        path: the file.

    Raises:
        VerificationError: a link leads out of the index directory.
    """

    def __init__(self, folder: Path, name: str = LOG) -> None:
        self.path, self._folder = folder / name, folder
        refuse_outside(self.path, folder.parent.resolve())
        self._file: BinaryIO | None = None
        self._place, self._head, self._seen = Place(), Head(), (0, 0)
        self._broken = ""

    @property
    def position(self) -> int:
        """The position of the last record read; 0 before the first."""
        return max(self._place.position, self._head.net)

    @property
    def size(self) -> int:
        """How many bytes of the file were read; 0 if there was none."""
        return self._place.offset if self._file is not None else 0

    @property
    def net_size(self) -> int:
        """How many bytes it had when it was last rewritten, as far as it was read."""
        return HEAD_BYTES + self._head.net_bytes

    def has_news(self) -> bool:
        """Return whether the file has changed since ``read``; takes one call of the system."""
        return self._state() != self._seen

    def read(self) -> tuple[bool, list[Entry]]:
        """Return the records that are new, and whether they are all that count: those read before are void.

        Raises:
            VerificationError: a record, or the head of the file, is not what was written.
        """
        seen = self._state()
        try:
            fresh, entries = self._read()
        except DamagedRecordError:
            # Another process may just have cut off what it could not write whole, and written again.
            time.sleep(_SETTLE_SECONDS)
            self.close()
            try:
                fresh, entries = self._read()
            except DamagedRecordError as error:
                raise self.damaged(str(error)) from error
        self._seen = seen
        return fresh, entries

    def check(self) -> bytes:
        """Read all of the file again, a little at a time; return the last record of what is left of earlier writes.

        It is empty if there is none.

        Raises:
            VerificationError: as ``read``.
            OSError: the file cannot be read.
        """
        try:
            return self._check()
        except DamagedRecordError:
            time.sleep(_SETTLE_SECONDS)
            try:
                return self._check()
            except DamagedRecordError as error:
                raise self.damaged(str(error)) from error

    def _check(self) -> bytes:
        last = b""
        with self.path.open("rb") as file:
            for content, ends in scan(file):
                last = content if ends else last
        return last

    def damaged(self, problem: str) -> VerificationError:
        """Close the file, so that what is read next is everything, and return the error that says what is wrong."""
        self.close()
        return VerificationError(
            f"{self.path}: {problem}; restore the index from a backup, or move the file away to lose its writes"
        )

    def content(self) -> bytes:
        """Return the file as far as it was read: a log of its own, which ends with a complete record."""
        if self._file is None:
            return b""
        self._file.seek(0)
        return self._file.read(self._place.offset)

    def _state(self) -> tuple[int, int]:
        try:
            state = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return 0, 0
        return state.st_ino, state.st_size

    def _read(self) -> tuple[bool, list[Entry]]:
        inode, size = self._state()
        entries: list[Entry] = []
        if self._file is not None:
            same = os.fstat(self._file.fileno()).st_ino == inode
            if same and size < self._place.offset:
                self.close()
            else:
                # Also what was written to it before another file replaced it.
                entries = self._tail(self._file)
                if same:
                    return False, entries
        if not inode:
            fresh = self._file is not None
            self.close()
            return fresh, []
        file, read = self.path.open("rb"), self.position if self._file is not None else None
        self.close()
        self._file = file
        head = self._head = Head.parse(file.read(HEAD_BYTES))
        if read == head.net:
            self._place = Place(head.net, head.checksum, HEAD_BYTES + head.net_bytes)
            return False, entries + self._tail(file)
        return True, self._tail(file)

    def _tail(self, file: BinaryIO) -> list[Entry]:
        file.seek(self._place.offset)
        entries: list[Entry] = []
        for content, place in decode(file.read(), self._place, self._head.net):
            entries.append((place.position, content))
            self._place = place
        return entries

    def close(self) -> None:
        """Close the file; what is read next is everything."""
        if self._file is not None:
            self._file.close()
        self._file, self._place, self._head, self._seen = None, Place(), Head(), (0, 0)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing until the block ends; create the folder if it is missing."""
        try:
            self._folder.mkdir(exist_ok=True)
            lock = open_lock(self._folder / _COMMIT)
        except OSError as error:
            raise _storage(error, self._folder) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                why = f"{self._folder}: its file system cannot lock files ({error.strerror})"
                raise StorageError(f"the write was refused, and nothing was written: {why}") from error
            yield
        finally:
            os.close(lock)

    def append(self, contents: Sequence[bytes], durability: Durability = "disk") -> list[int]:
        """Write records in a block of ``alone``, after ``read``; return their positions once they are durable.

        An incomplete record at the end, of a process that died or a power failure, is cut off, with a notice.

        Raises:
            StorageError: the disk is full or fails; nothing was written.
        """
        if self._broken:
            raise StorageError(self._broken)
        if self._file is None:
            self._write_file(Head().to_bytes())
            self.read()
        self._cut()
        place, parts, positions = self._place, list[bytes](), list[int]()
        for content in contents:
            part, place = encode(place, max(place.position, self._head.net) + 1, content)
            parts.append(part)
            positions.append(place.position)
        try:
            with self.path.open("r+b", buffering=0) as stream:
                stream.seek(self._place.offset)
                _write_all(stream, b"".join(parts))
                if durability == "disk":
                    os.fdatasync(stream.fileno())
        except BaseException as error:
            self._take_back()
            if isinstance(error, OSError):
                raise _storage(error, self.path) from error
            raise
        self._place, self._seen = place, self._state()
        return positions

    def replace(self, entries: Sequence[Entry], net: int) -> None:
        """Replace the file, in a block of ``alone`` and after ``read``, by what is left of its writes.

        Args:
            entries: records that together do what all do, in the order of their positions.
            net: the position up to which they do.
        """
        place, parts = Place(), list[bytes]()
        for position, content in entries:
            part, place = encode(place, position, content)
            parts.append(part)
        head = Head(net, place.offset - HEAD_BYTES, place.checksum)
        self._write_file(head.to_bytes() + b"".join(parts))

    def _write_file(self, content: bytes) -> None:
        try:
            write_atomically(self.path, content)
        except OSError as error:
            raise _storage(error, self.path) from error

    def _cut(self) -> None:
        size = self._state()[1]
        if size > self._place.offset:
            torn = size - self._place.offset
            _LOG.warning(
                "%s: the last record is incomplete, since its process or the power ended while it was written; "
                "%d bytes cut off, of a write that was not acknowledged",
                self.path,
                torn,
            )
            try:
                os.truncate(self.path, self._place.offset)
            except OSError as error:
                raise _storage(error, self.path) from error

    def _take_back(self) -> None:
        """Cut off what may have been written of records that failed."""
        try:
            with self.path.open("r+b", buffering=0) as stream:
                stream.truncate(self._place.offset)
                os.fsync(stream.fileno())
        except OSError as error:
            self._broken = f"{system_error(error)}; a failed write could not be taken back, so open the index again"
        with suppress(OSError):
            self._seen = self._state()


def _write_all(stream: BinaryIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[stream.write(view) :]


def _storage(error: OSError, path: Path) -> StorageError:
    if error.filename is None:
        error.filename = str(path)
    return StorageError(f"the write was refused, and nothing was written: {system_error(error)}")
