"""Reading files that others wrote: no more than a size, and text without surprises."""

import errno
import os
import stat
from pathlib import Path

from udr.errors import DataError

LFS = "is a Git LFS pointer, not the file itself; run: git lfs pull"

_LFS = b"version https://git-lfs.github.com/spec/"


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


def lfs_pointer(path: Path) -> bool:
    """Return whether a file is only a pointer of Git LFS, as a clone without LFS has them."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS)) == _LFS
