"""A full disk: one line with the path, whichever library meets it."""

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from udr.errors import InvalidInputError, naming, system_error

FULL = "No space left on device; free some space and try again"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
        Exception("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at x.cc:1] . PytorchStreamWriter failed writing file data/0"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_library_s_error_becomes_the_system_s_with_the_place(error: Exception) -> None:
    with pytest.raises(OSError, match="No space left") as raised, naming("a/place"):
        raise error
    assert system_error(raised.value).startswith(f"a/place: {FULL}")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "file"),
        OSError(errno.ENOENT, "No such file or directory"),
        ConnectionResetError("by peer"),
        InvalidInputError("found 'No space left on device'"),
        sqlite3.OperationalError("no such table: rows"),
    ],
    ids=str,
)
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, naming("a/place"):
        raise error
    assert raised.value is error


def test_of_many_files_the_first_is_named(tmp_path: Path) -> None:
    error = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'"), ("c", "d", "[Errno 13] x")])
    assert system_error(error).startswith(f"b: {FULL}")


def test_a_full_standard_output_is_named() -> None:
    code = "import sys; from udr.cli import main; sys.exit(main(['--version']))"
    with open("/dev/full", "wb", buffering=0) as full:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert ended.returncode == 1
    assert re.fullmatch(f"udr: error: standard output: {FULL}.*\\n", ended.stderr)


def test_a_file_that_may_not_grow_is_named(tmp_path: Path) -> None:
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
from udr.cli import main
sys.exit(main(["keys", "new", "--name", "n", "--scope", "read", "--file", sys.argv[1]]))
"""
    path = tmp_path / "keys.toml"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith(f"udr: error: {path}: File too large; raise the limit")
    assert list(tmp_path.iterdir()) == [], "neither the file nor a part of it"
