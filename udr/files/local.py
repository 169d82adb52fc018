"""Files: written completely or not at all, and synced to disk; folders locked; text that people wrote."""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from udr.errors import ArtifactError, ConfigError, DataError, UdrError, system_error
from udr.types import Json

IN_USE = ": is in use by "
"""What follows a folder in the error of ``locked``, and goes before who holds the lock."""

_DAY = 24 * 60 * 60
_POLL_SECONDS = 0.05
_LFS = b"version https://git-lfs.github.com/spec/"
_LARGEST_TOML = 1024 * 1024
_DEEPEST_TOML = 16
_LONG_TEXT = re.compile(r'''"""(?:[^\\]|\\.)*?(?:"""|\Z)''' + r"|'''.*?(?:'''|\Z)", re.DOTALL)
# The parser's time and memory grow with the square of the parts of a dotted key.
_LONG_KEY = re.compile(r"""(?:^|[{,\[])[ \t]*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){16}""", re.MULTILINE)


def check_format(
    found: object,
    reads: int,
    what: str,
    remedy: str,
    kind: type[UdrError] = ArtifactError,
    *,
    oldest: int | None = None,
) -> None:
    """Refuse what another version of udr wrote in a format that this one does not read.

    Args:
        found: the format's number in the file; None, in files from before they had one, is 1.
        reads: the number that this version writes and reads.
        what: what has the format.
        remedy: the command that makes it again, or converts it.
        kind: the error to raise.
        oldest: the lowest number that it reads, if that is another.
    """
    found, oldest = 1 if found is None else found, reads if oldest is None else oldest
    if isinstance(found, int) and not isinstance(found, bool) and oldest <= found <= reads:
        return
    newer = isinstance(found, int) and found > reads
    advice = "install the version of udr that made it, or " if newer else ""
    readable = f"format {reads}" if oldest == reads else f"formats {oldest} to {reads}"
    raise kind(f"{what} has format {found!r:.20}, but this udr reads {readable}; {advice}run: {remedy}")


def canonical_json(value: Json, *, indent: int | None = None) -> bytes:
    """Return a value as canonical JSON in UTF-8: sorted keys, no NaN; equal values give equal bytes."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode()


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that readers, even after a crash, see the old content or the complete new content.

    Writers of one file wait for each other, threads and processes (where the file system can lock files): ``write``
    may read the old content to write the new one, and no writer's change is lost.

    Args:
        path: the file.
        write: the content, or a function that writes it to a stream.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _only_writer(temporary) as stream:
            try:
                if isinstance(write, bytes):
                    stream.write(write)
                else:
                    write(stream)
                stream.flush()
                os.fsync(stream.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        # A full disk is reported without the file, and the temporary one is ours alone.
        error.filename = str(path)
        raise
    sync(path.parent)


def _only_writer(temporary: Path) -> BinaryIO:
    """Open a temporary file, empty, once nobody else writes to it.

    Its name is fixed, so that the next attempt takes the file that a killed one left.
    """
    while True:
        stream = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o666), "wb")
        try:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            # Or else its writer has just given it its final name.
            if _is_open_as(temporary, stream):
                stream.truncate(0)
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_open_as(path: Path, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush every file and folder under ``root`` to disk."""
    for path in sorted(root.rglob("*")):
        sync(path)
    sync(root)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a staging folder that becomes ``folder`` if the body succeeds; the next attempt deletes a failed one's."""
    staging = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    yield staging
    sync_tree(staging)
    staging.rename(folder)
    sync(folder.parent)


@contextmanager
def first_to_finish(folder: Path) -> Iterator[Path]:
    """Yield this process's staging folder, which becomes ``folder`` if the body succeeds before another process's.

    Staging folders of killed processes are deleted after a day.
    """
    # Not the process's number alone: another container, on the same disk, may have it too.
    staging = folder.with_name(f"{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        staging.mkdir(parents=True)
        for left in folder.parent.glob(f"{folder.name}.*"):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        yield staging
        sync_tree(staging)
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def locked(folder: Path, wait_seconds: float = 0) -> Iterator[None]:
    """Keep other processes out of a folder until the block ends, or until this process dies, however it dies.

    The file ``.lock`` names the holder, but only the system's lock on it counts: a copy of the folder is not locked.

    Raises:
        ArtifactError: another process holds the lock, and does not release it in ``wait_seconds``.
        ConfigError: the folder cannot be written, or its file system has no locks.
    """
    until = time.monotonic() + wait_seconds
    try:
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(system_error(error)) from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise ArtifactError(f"{folder}{IN_USE}{holder}; wait until it ends, or end it") from error
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                raise ConfigError(
                    f"{folder}: its file system cannot lock files ({error.strerror}); use a folder on a local disk"
                ) from error
        file.truncate(0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({command[:80]})")
        file.flush()
        yield


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a file of at most ``most`` bytes; ``OSError`` if it has more, or is not a regular file."""
    # Opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if state.st_size > most:
            raise OSError(errno.EFBIG, f"Larger than {most} bytes", str(path))
        # No more than that: a buffer of this size is allocated first.
        return stream.read(state.st_size)


def read_text(path: Path) -> str:
    """Return the content of a text file that a person wrote: UTF-8, with or without a byte order mark.

    Raises:
        DataError: the file is not UTF-8, or a pointer of Git LFS.
    """
    if lfs_pointer(path):
        raise DataError(LFS, path=path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: byte {error.start} ({error.reason})", path=path) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the keys of a TOML file; raises as ``read_text`` and ``parse_toml``, and if it is too large."""
    if (size := path.stat().st_size) > _LARGEST_TOML:
        raise DataError(f"has {size} bytes; a TOML file may have at most {_LARGEST_TOML}", path=path)
    return parse_toml(read_text(path), path)


def parse_toml(text: str, path: Path | None = None) -> dict[str, Any]:
    """Return the keys that a text in TOML defines; ``DataError`` if it is not TOML, or nested too deeply."""
    too_deep = DataError(f"nested more than {_DEEPEST_TOML} levels deep", path=path)
    if _LONG_KEY.search(_LONG_TEXT.sub('""', text)):
        raise too_deep
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits is a plain ValueError.
        raise DataError(f"not TOML: {error}", path=path) from error
    layer: list[object] = [values]
    for _ in range(_DEEPEST_TOML):
        layer = [inner for value in layer for inner in _inside(value)]
    if layer:
        raise too_deep
    return values


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


LFS = "is a Git LFS pointer, not the file itself; run: git lfs pull"


def lfs_pointer(path: Path) -> bool:
    """Return whether a file is only a pointer of Git LFS, as a clone without LFS has them."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS)) == _LFS


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
