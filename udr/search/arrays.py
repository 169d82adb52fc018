"""Arrays in files, mapped into memory unless small: their headers are parsed, not evaluated, and allocate nothing."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, reason

# As numpy writes it, in format 1.0, of one or two dimensions. numpy itself evaluates a header as Python.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<descr><[fi][248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,18}, ?(?:\d{1,18})?)\), \} *\n",
    re.DOTALL,
)
_PREFIX = 10
_LONGEST = 512
_SMALL = 16_384
"""Bytes up to which a file is read: a mapping takes a page and a file descriptor, and small tasks have many files."""


def open_array(path: Path) -> NDArray[Any]:
    """Return the array of numbers that a ``.npy`` file holds, read-only: memory-mapped, or in memory if it is small.

    Raises:
        ArtifactError: the file cannot be read, holds no numbers, or has another size than its header says.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_SMALL + 1)
        match = _HEADER.match(content[:_LONGEST])
        if match is None or match.end() != _PREFIX + int.from_bytes(match["length"], "little"):
            raise ValueError("its header is not one of an array of numbers")
        dtype, shape = np.dtype(match["descr"].decode()), tuple(map(int, re.findall(rb"\d+", match["shape"])))
        small = len(content) <= _SMALL
        size, expected = len(content) if small else path.stat().st_size, match.end() + dtype.itemsize * _product(shape)
        if size != expected:
            raise ValueError(f"it has {size} bytes, its header says {expected}")
        if small:
            return np.frombuffer(content, dtype, offset=match.end()).reshape(shape)
        return np.memmap(path, dtype, "r", match.end(), shape)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({reason(error)}); run: udr index verify") from error


def _product(shape: tuple[int, ...]) -> int:
    # In Python's integers, which do not overflow.
    return shape[0] * shape[1] if len(shape) > 1 else shape[0]


def refuse_truncated(array: NDArray[Any]) -> None:
    """Raise ``ArtifactError`` if the file of a memory-mapped array has become too short to be read.

    Reading beyond a file's end kills the process. A file that was deleted or replaced is still readable.
    """
    if not isinstance(array, np.memmap) or array.filename is None:
        return
    try:
        size = os.stat(array.filename).st_size
    except OSError:
        return
    if size < array.offset + array.nbytes:
        raise ArtifactError(f"{array.filename}: is truncated to {size} bytes while it is in use; run: udr index verify")
