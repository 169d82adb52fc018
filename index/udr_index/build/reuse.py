"""What an earlier version of an index has already: vectors and token counts, taken over where texts are the same."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.data import Task
from udr.errors import ArtifactError, VerificationError
from udr.store import IndexVersion, open_version, verify_version
from udr_index.build.identity import BuildIdentity

_LOG = logging.getLogger(__name__)


class PreviousVersion:
    """The vectors and token counts of an index version by the texts that were encoded.

    Args:
        version: the version.

    Attributes:
        digest: stands for its vectors and all else that is in it: 16 hex digits. Versions of one name may differ in
            the last bits of their vectors.
    """

    def __init__(self, version: IndexVersion) -> None:
        self.digest = hashlib.sha256(version.manifest.to_bytes()).hexdigest()[:16]
        self._version, self._table = version, version.demonstrations()
        self._vectors: dict[str, NDArray[np.floating]] = {}

    def vector(self, key: bytes) -> NDArray[np.floating] | None:
        """Return the vector of the text that ``key`` stands for (see ``udr.demonstrations.text_key``), or None."""
        found = self._table.first(key)
        if found is None:
            return None
        task, position = found
        if task not in self._vectors:
            self._vectors[task] = self._version.vectors(task)
        vector: NDArray[np.floating] = self._vectors[task][position]
        return vector

    def token_counts(self, task: Task, keys: Iterable[bytes], tokenizer: str) -> Mapping[bytes, int]:
        """Return how many tokens rows are, by the keys of what an encoder reads of them, without those not known.

        Args:
            task: the rows' task. With another instruction, equal texts for an encoder may be other demonstrations.
            keys: of the texts.
            tokenizer: the fingerprint of the one whose tokens are wanted.
        """
        made, part = self._version.manifest.tokenizer, self._version.manifest.partitions.get(task.name)
        if made is None or made.fingerprint != tokenizer or part is None or part.task.instruction != task.instruction:
            return {}
        return self._table.token_counts(task.name, keys)

    def close(self) -> None:
        """Close its files."""
        self._table.close()
        self._vectors.clear()


def open_previous(root: Path, contents: BuildIdentity) -> PreviousVersion | None:
    """Open the version of an index that its ``CURRENT`` names, to take its vectors over; None where none can be.

    That there is no index yet, or one by another encoder, wording or format, is told and is no error: the same
    command serves the first build, every later one, and the one after a training.

    Raises:
        VerificationError: a file of the version is not what it was: its vectors would be taken for good ones.
    """
    try:
        version = open_version(root)
    except VerificationError:
        raise
    except ArtifactError as error:
        _LOG.warning("nothing to take over: %s", error)
        return None
    old, new = version.manifest.encoder, contents.encoder
    if (old.fingerprint, old.dimension, old.metric) != (new.fingerprint, new.dimension, new.metric):
        _LOG.warning("nothing to take over: %s was built by encoder %r with other weights", root, old.name)
        return None
    if version.manifest.dtype != contents.dtype:
        _LOG.warning("nothing to take over: %s holds %s", root, version.manifest.dtype)
        return None
    findings = verify_version(version.path)
    if findings:
        raise VerificationError(f"{version.path / findings[0].path}: {findings[0].problem}; build without --reuse")
    return PreviousVersion(version)
