"""The locks of a live pool, where they cannot be taken."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from udr import Retriever
from udr.errors import StorageError
from udr.store import LIVE


def test_a_lock_that_cannot_be_opened_refuses_the_write(copy: Path) -> None:
    (copy / LIVE / ".lock").mkdir(parents=True)
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        with pytest.raises(StorageError, match=r"the write was refused, and nothing was written: .*\.lock"):
            retriever.delete("notes", "n00")
        (copy / LIVE / ".lock").rmdir()
        assert retriever.delete("notes", "n00").deleted == ("n00",)


def test_a_file_system_without_locks_refuses_the_write(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def fail(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        Retriever.open(copy, encoder=HashEncoder()) as retriever,
        pytest.raises(StorageError, match=r"nothing was written: .*its file system cannot lock files"),
    ):
        retriever.delete("notes", "n00")
