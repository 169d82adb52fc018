"""What a manifest may say: everything that others could have written there is bounded before it is used."""

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from udr.data import encoder_fields

if TYPE_CHECKING:
    from udr.store.manifest import LabelHeadStamp, Manifest, Partition

MOST_ROWS = 2**31 - 1
_MOST_DIMENSIONS = 65_536
_MOST_BYTES = 2**50
_LONGEST = 512
MOST_LABELS = 256
"""The most labels that a label head knows."""
_MOST_ALPHA = 1e6
VERSION_NAME = "[0-9a-f]{16}"
"""The pattern of a version's name."""

_VERSION = re.compile(VERSION_NAME)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[a-z0-9_-]+")
_KIND = re.compile(r"[A-Za-z0-9_,.()x-]{1,200}")


def check_manifest(manifest: "Manifest") -> None:
    """Raise ``ValueError`` if a name is not safe as a path, a number is out of range, or a value has another type."""
    _require(_matches(_VERSION, manifest.version), "the version's name", manifest.version)
    _require(_is_text(manifest.wording), "the wording", manifest.wording)
    _require(manifest.dtype in ("float32", "float16"), "the type of vectors", manifest.dtype)
    encoder, tokenizer = manifest.encoder, manifest.tokenizer
    for name, value in (
        ("the encoder's name", encoder.name),
        ("the encoder's fingerprint", encoder.fingerprint),
        ("the tokenizer's name", "-" if tokenizer is None else tokenizer.name),
        ("the tokenizer's fingerprint", "-" if tokenizer is None else tokenizer.fingerprint),
    ):
        _require(_is_text(value), name, value)
    _require(encoder.metric in ("cosine", "dot"), "the encoder's metric", encoder.metric)
    _require(_is_count(encoder.dimension, 1, _MOST_DIMENSIONS), "the encoder's dimension", encoder.dimension)
    for name in manifest.families:
        _require(_matches(_FOLDER, name), "a family's name", name)
    for name, part in manifest.partitions.items():
        # It names a folder.
        _require(name == part.task.name, f"the name of task {part.task.name!r}", name)
        _require(_is_count(part.count, 1, MOST_ROWS), f"the number of rows of task {name!r}", part.count)
        _require(_matches(_KIND, part.kind), f"the kind of task {name!r}", part.kind)
        if part.label_head is not None:
            _check_label_head(part, part.label_head, encoder.dimension)
    for path, stamp in manifest.files.items():
        _require(_is_inside(path), "a file's path, which must be relative, inside the version and without '..',", path)
        _require(_is_count(stamp.size, 0, _MOST_BYTES), f"the size of {path!r}", stamp.size)
        _require(_matches(_SHA256, stamp.sha256), f"the sha256 of {path!r}", stamp.sha256)


def _check_label_head(part: "Partition", head: "LabelHeadStamp", dimension: int) -> None:
    labels, whose = head.labels, f"of the label head of task {part.task.name!r}"
    _require(2 <= len(labels) <= MOST_LABELS and len(set(labels)) == len(labels), f"the labels {whose}", labels)
    _require(all(isinstance(label, str) for label in labels), f"the labels {whose}", labels)
    # Fewer than the dimension are appended beside the labels, for quantizers whose numbers divide it.
    _require(_is_count(head.width, len(labels), MOST_LABELS + dimension), f"the width {whose}", head.width)
    _require(_is_count(head.rows, 2, MOST_ROWS), f"the rows {whose}", head.rows)
    apart = encoder_fields(part.task)
    _require(not head.fields or (head.fields == apart and len(apart) == 2), f"the fields {whose}", head.fields)
    for name in ("alpha", "strength", "share_without", "share"):
        value = getattr(head, name)
        _require(_is_number(value) and 0 <= value <= _MOST_ALPHA, f"the {name} {whose}", value)


def vectors_fit(manifest: "Manifest", task: str, size: int) -> bool:
    """Return whether a file of this size can hold a task's vectors, besides a header."""
    part = manifest.partitions[task]
    needed = part.count * manifest.encoder.dimension * np.dtype(manifest.dtype).itemsize
    return needed < size <= needed + _LONGEST


def _require(valid: bool, name: str, found: object) -> None:
    if not valid:
        raise ValueError(f"{name} cannot be {repr(found)[:100]}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_inside(path: object) -> bool:
    if not _is_text(path):
        return False
    pure = PurePosixPath(str(path))
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == path != "." and "\\" not in str(path)
