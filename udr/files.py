"""Durable files: written completely or not at all, and synced to disk."""

import hashlib
import json
import os
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from udr.errors import DataError
from udr.types import Json

_DAY = 24 * 60 * 60
_LFS = b"version https://git-lfs.github.com/spec/"


def canonical_json(value: Json, *, indent: int | None = None) -> bytes:
    """Return a value as canonical JSON in UTF-8: sorted keys, no NaN; equal values give equal bytes."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode()


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that readers, even after a crash, see the old content or the complete new content.

    ``write`` is the content, or a function that writes it to a stream.
    """
    # A fixed name, so that the next attempt overwrites the file of a killed one.
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        if isinstance(write, bytes):
            stream.write(write)
        else:
            write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync(path.parent)


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
    staging = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f"{folder.name}.*"):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        yield staging
        sync_tree(staging)
        if not folder.is_dir():
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
    """Return the keys of a TOML file; raises as ``read_text``, and if it is not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"not TOML: {error}", path=path) from error


LFS = "is a Git LFS pointer, not the file itself; run: git lfs pull"


def lfs_pointer(path: Path) -> bool:
    """Return whether a file is only a pointer of Git LFS, as a clone without LFS has them."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS)) == _LFS


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
