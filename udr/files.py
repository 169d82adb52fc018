"""Durable files: written whole or not at all, and still there after a power cut."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from udr.types import Json

_DAY = 24 * 60 * 60


def canonical_json(value: Json, *, indent: int | None = None) -> bytes:
    """Return the one way to write a value as JSON, in UTF-8: keys sorted, no NaN; equal values give equal bytes.

    Args:
        value: what to write.
        indent: None writes it on one line; a number breaks and indents lines for people to read.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode()


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that others, now or after a crash, see the old one or the whole new one.

    Args:
        path: the file; its folder must exist.
        write: the content, or a function that writes it to a stream.
    """
    # One name for every attempt: what a killed one left behind is overwritten by the next, and never piles up.
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
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Wait until every file and folder under ``root`` is on the disk."""
    for path in sorted(root.rglob("*")):
        sync(path)
    sync(root)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes the name ``folder`` when the body ends, and never does when it fails.

    What an attempt that was killed left behind is thrown away by the next.
    """
    staging = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    yield staging
    sync_tree(staging)
    staging.rename(folder)
    sync(folder.parent)


@contextmanager
def first_to_finish(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes the name ``folder`` when the body ends, unless another process was quicker.

    Each process has one of its own. What attempts that were killed left behind is thrown away when it is a day old; one
    that still runs is younger.
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


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
