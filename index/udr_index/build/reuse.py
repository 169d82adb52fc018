"""Reusing what an earlier index version has: vectors and token counts of the same texts, and what was measured."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from udr.data import Task
from udr.errors import ArtifactError, VerificationError
from udr.store import (
    SEARCH,
    IndexVersion,
    Manifest,
    approximate,
    local_index,
    open_version,
    read_settings,
    read_weights,
    verify_version,
    write_search,
)
from udr_index.build.faiss_index import first_settings

_LOG = logging.getLogger(__name__)

_NOTHING = "nothing to reuse: %s"

_T = TypeVar("_T")


class PreviousVersion:
    """The vectors and token counts of an index version, by text.

    Attributes:
        version: the version.
        digest: the manifest's digest, 16 hex digits; versions of the same name may differ in the last bits of vectors.
    """

    def __init__(self, version: IndexVersion) -> None:
        self.digest = hashlib.sha256(version.manifest.to_bytes()).hexdigest()[:16]
        self.version, self._table = version, version.demonstrations()
        self._vectors: dict[str, NDArray[np.floating]] = {}

    def vector(self, key: bytes) -> NDArray[np.floating] | None:
        """Return the vector of the text with this key (see ``udr.data.text_key``), or None."""
        first = self._table.first(key)
        if first is None:
            return None
        task, position = first
        if task not in self._vectors:
            self._vectors[task] = self.version.vectors(task)
        vector: NDArray[np.floating] = self._vectors[task][position]
        return vector

    def token_counts(self, task: Task, keys: Iterable[bytes], tokenizer: str) -> Mapping[bytes, int]:
        """Return the known token counts of a task's rows by their text keys, for a tokenizer's fingerprint."""
        counter, part = self.version.manifest.tokenizer, self.version.manifest.partitions.get(task.name)
        if counter is None or counter.fingerprint != tokenizer:
            return {}
        # With another instruction, the same text of an encoder may be another demonstration.
        if part is None or part.task.instruction != task.instruction:
            return {}
        return self._table.token_counts(task.name, keys)

    def close(self) -> None:
        """Close its files."""
        self._table.close()
        self._vectors.clear()


def located(root: Path) -> Path | None:
    """Return the directory of an index to reuse, or of its copy if it is on a remote store.

    None if it cannot be copied, which is only logged. Copying locks the copy, which may be where the build is made, so
    call this before the build locks it.

    Raises:
        VerificationError: the version is damaged.
    """
    return _or_nothing(lambda: local_index(root))


def open_previous(root: Path, manifest: Manifest) -> PreviousVersion | None:
    """Open the current version of an index, if a version with ``manifest`` can reuse its vectors.

    A missing index, or one with another encoder, wording or format, is only logged, so the same command works for
    the first build and every later one.

    Raises:
        VerificationError: the version is damaged.
    """
    version = find_previous(root, manifest)
    if version is None:
        return None
    findings = verify_version(version.path)
    if findings:
        raise VerificationError(f"{version.path / findings[0].path}: {findings[0].problem}; build without --reuse")
    return PreviousVersion(version)


def find_previous(root: Path, manifest: Manifest) -> IndexVersion | None:
    """Return the version that ``open_previous`` opens, with its files unchecked; log why if there is none."""
    version = _or_nothing(lambda: open_version(root))
    if version is not None and (mismatch := _mismatch(root, version.manifest, manifest)):
        _LOG.warning(_NOTHING, mismatch)
        return None
    return version


def write_measured(old: IndexVersion | None, folder: Path, manifest: Manifest) -> None:
    """Write how to search the version in ``folder``: as ``old`` was measured, where that holds.

    Search settings hold for a partition of the same kind, and hybrid weights for one with BM25 and, as before, with a
    label head or without. For the rest, the version keeps its own; if it has none yet, it gets the first settings of
    each kind. If its own file of them is newer than that of ``old``, nothing changes.

    First settings of ``old`` are never handed on: they cannot be told apart from measured ones that are the same.

    Raises:
        VerificationError: a file that has them is altered.
    """
    if (folder / SEARCH).is_file() and (old is None or _measured_at(old.path) <= _measured_at(folder)):
        return
    parts = manifest.partitions
    first = {name: first_settings(parts[name].kind) for name in approximate(manifest)}
    settings, weights = first, dict[str, float]()
    if (folder / SEARCH).is_file():
        settings, weights = read_settings(folder, manifest), read_weights(folder, manifest)
    if old is not None:
        found, before = read_settings(old.path, old.manifest), old.manifest.partitions
        same = {name for name in first if name in found and parts[name].kind == before[name].kind}
        settings = settings | {name: found[name] for name in same if found[name] != first[name]}
        weighed = read_weights(old.path, old.manifest)
        lexical = {name for name in weighed if name in parts and parts[name].lexical}
        headed = {name for name in lexical if (parts[name].label_head is None) != (before[name].label_head is None)}
        weights = weights | {name: weighed[name] for name in lexical - headed}
        if headed:
            what = (
                "hybrid weights are not kept where a label head came or went: %s; for tasks without a head now, run: %s"
            )
            _LOG.warning(what, ", ".join(sorted(headed)), "udr feedback weigh RUN INDEX")
        if other := ", ".join(sorted(first.keys() & found.keys() - same)):
            _LOG.warning("partitions of another kind than before: %s; measure them: udr index bench", other)
    if settings or weights:
        # At once: a service may watch this file.
        write_search(folder, manifest, settings, weights)


def _measured_at(folder: Path) -> int:
    """Return when a version was measured last, in nanoseconds; 0 if never."""
    path = folder / SEARCH
    return path.stat().st_mtime_ns if path.is_file() else 0


def _or_nothing(find: Callable[[], _T]) -> _T | None:
    """Return what is found to reuse; None, which is logged, if there is nothing. Damage is an error."""
    try:
        return find()
    except VerificationError:
        raise
    except ArtifactError as error:
        _LOG.warning(_NOTHING, error)
        return None


def _mismatch(root: Path, old: Manifest, new: Manifest) -> str:
    encoders = [(stamp.fingerprint, stamp.dimension, stamp.metric) for stamp in (old.encoder, new.encoder)]
    if encoders[0] != encoders[1]:
        return f"{root} was built by encoder {old.encoder.name!r} with other weights"
    return f"{root} holds {old.dtype}" if old.dtype != new.dtype else ""
