"""Folders that one process at a time works in."""

import errno
import fcntl
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from udr.errors import ArtifactError, ConfigError, system_error

IN_USE = ": is in use by "
"""What follows a folder in the error of ``locked``, and goes before who holds the lock."""

_LOG = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_SILENT_SECONDS = 0.5
"""How long to wait without a word."""


def open_lock(path: Path) -> int:
    """Open a file that is to be locked, and written to at most then; create it if it is missing.

    Raises:
        OSError: it cannot be opened, or is a link: in a folder of somebody else, it may lead to any file of the user's.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            error.strerror = f"{path.name} is a link, through which udr does not write; run: rm {path}"
        raise


@contextmanager
def locked(folder: Path, wait_seconds: float = 0) -> Iterator[None]:
    """Keep other processes out of a folder until the block ends, or until this process dies, however it dies.

    The file ``.lock`` names the holder, but only the system's lock on it counts: a copy of the folder is not locked. A
    line in the log tells of a wait.

    Raises:
        ArtifactError: another process holds the lock, and does not release it in ``wait_seconds``.
        ConfigError: the folder cannot be written, or its file system has no locks.
    """
    began, told = time.monotonic(), False
    try:
        file = os.fdopen(open_lock(folder / ".lock"), "r+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(system_error(error)) from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                waited = time.monotonic() - began
                if waited >= wait_seconds:
                    raise ArtifactError(f"{_in_use(folder, file)}; wait until it ends, or end it") from error
                if not told and waited >= _SILENT_SECONDS:
                    _LOG.info("%s; waiting until it ends", _in_use(folder, file))
                    told = True
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                raise ConfigError(
                    f"{folder}: its file system cannot lock files ({error.strerror}); use a folder on a local disk"
                ) from error
        file.seek(0)
        file.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({command[:80]})")
        file.flush()
        yield


def _in_use(folder: Path, lock: TextIO) -> str:
    """Return that a folder is in use, and by whom: what its lock file says."""
    lock.seek(0)
    return f"{folder}{IN_USE}{lock.read().strip() or 'another process'}"
