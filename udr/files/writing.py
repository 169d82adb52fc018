"""Files and folders that are written completely or not at all, and synced to disk."""

import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from udr.files.locking import open_lock

_DAY = 24 * 60 * 60


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object], private_as: Path | None = None) -> None:
    """Write a file so that readers, even after a crash, see the old content or the complete new content.

    Writers of one file wait for each other, threads and processes (where the file system can lock files): ``write``
    may read the old content to write the new one, and no writer's change is lost. A file that is replaced keeps its
    permissions, its owner and group as far as this process may set them, and a link its place: the file that it leads
    to is replaced.

    Args:
        path: the file.
        write: the content, or a function that writes it to a stream.
        private_as: a file of the same content: others may do with the new one at most what they may do with this.

    Raises:
        OSError: the file cannot be written, or is a link to a read-only file.
    """
    given, path = path, path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _only_writer(temporary) as stream:
            try:
                _set_mode(stream, given, private_as)
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
        error.filename = str(given)
        raise
    sync(path.parent)


def _set_mode(stream: BinaryIO, path: Path, private_as: Path | None) -> None:
    """Give a stream the owner and permissions of the file that it replaces; for others, no more than another file's."""
    before = mode = os.fstat(stream.fileno()).st_mode & 0o777
    if path.exists():
        replaced = path.stat()
        mode = replaced.st_mode & 0o777
        refuse_link(path)
        # Else a service that may read its file could no more, once root has replaced it.
        for owner, group in ((replaced.st_uid, -1), (-1, replaced.st_gid)):
            with suppress(PermissionError):
                os.fchown(stream.fileno(), owner, group)
    if private_as is not None:
        mode &= private_as.stat().st_mode & 0o077 | 0o700
    if mode != before:
        os.fchmod(stream.fileno(), mode)


def refuse_link(path: Path) -> None:
    """Raise ``OSError`` if a file that is to be written is a link to a read-only file, or to none.

    For what is written together with other files: ``write_atomically`` refuses the former only once it gets there.
    """
    if path.is_symlink():
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "links to no file; remove the link", str(path))
        if not path.stat().st_mode & 0o222:
            # Such as those to a cache of DVC or git-annex, which knows its files by their content.
            raise PermissionError(errno.EACCES, "links to a read-only file; put a copy in the link's place", str(path))


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that readers of the target see its old content or the complete new content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as stream:
        write_atomically(target, lambda new: shutil.copyfileobj(stream, new))


def _only_writer(temporary: Path) -> BinaryIO:
    """Open a temporary file, empty, once nobody else writes to it.

    Its name is fixed, so that the next attempt takes the file that a killed one left.
    """
    while True:
        stream = os.fdopen(open_lock(temporary), "wb")
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


def let_others_read(folder: Path) -> None:
    """Give the files of a new folder its own permissions: safetensors lets only the owner read what it writes."""
    mode = folder.stat().st_mode & 0o666
    for path in filter(Path.is_file, folder.rglob("*")):
        path.chmod(mode)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a staging folder that becomes ``folder`` if the body succeeds, or else is deleted."""
    with _staging(folder) as staging:
        yield staging
        sync_tree(staging)
        staging.rename(folder)
        sync(folder.parent)


@contextmanager
def first_to_finish(folder: Path) -> Iterator[Path]:
    """Yield a staging folder that becomes ``folder`` if the body is the first to succeed, or else is deleted."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _staging(folder) as staging:
        yield staging
        sync_tree(staging)
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Yield a ``fresh_folder``, hidden beside ``folder``, that no other process has.

    Those of killed processes are deleted after a day.
    """
    # Not the process's number alone: another container, on the same disk, may have it too.
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    with shown_as(hidden, folder), fresh_folder(hidden) as staging:
        ours = re.compile(rf"\.{re.escape(folder.name)}\.\d+-[0-9a-f]{{8}}")
        for left in filter(lambda path: ours.fullmatch(path.name), folder.parent.iterdir()):
            # Its process may have renamed or deleted it meanwhile.
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _DAY:
                    shutil.rmtree(left, ignore_errors=True)
        yield staging


@contextmanager
def shown_as(hidden: Path, folder: Path) -> Iterator[None]:
    """Have the system's errors of a hidden folder, and of what is in it, name the folder that is made there."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(hidden):
            error.filename = str(folder / Path(error.filename).relative_to(hidden))
        raise


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """Yield this folder, empty, and delete it at the end, unless it has got another name by then.

    What a killed process left there is deleted first, so the caller has to keep other processes out.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
