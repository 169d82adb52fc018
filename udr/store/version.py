"""The index on disk: ``DIR/versions/<version>/``, never changed once written, and ``DIR/CURRENT``, which names one.

A version holds::

    manifest.json                      written last; the checksum of every other file
    model/                             the encoder, where it was named by a path of the machine that built the index
    demonstrations.sqlite              the rows, and how many tokens each is
    partitions/<task>/vectors.npy      float32 or float16 [count, dimension], in the order of the rows' ids
    partitions/<task>/index.faiss      the faiss index of those vectors, where the partition is not flat
    partitions/<task>/bm25/            the BM25 index of the rows' inputs, where there is one
    search.json                        how those indexes are searched; see ``udr.search_settings``
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.data import ENCODER_WORDING
from udr.errors import ArtifactError, VerificationError
from udr.files import write_atomically
from udr.store.demonstrations import DemonstrationTable
from udr.store.manifest import Manifest, parse_manifest

CURRENT = "CURRENT"
VERSIONS = "versions"
MANIFEST = "manifest.json"
MODEL = "model"
DEMONSTRATIONS = "demonstrations.sqlite"

_CURRENT_CONTENT = re.compile(rb"([0-9a-f]{16})\n")


def vectors_path(task: str) -> str:
    """Return where a version keeps a task's vectors, relative to its folder."""
    return f"partitions/{task}/vectors.npy"


def index_path(task: str) -> str:
    """Return where a version keeps a task's faiss index, relative to its folder."""
    return f"partitions/{task}/index.faiss"


def bm25_path(task: str) -> str:
    """Return where a version keeps a task's BM25 index, relative to its folder."""
    return f"partitions/{task}/bm25"


def version_path(root: Path, version: str) -> Path:
    """Return the folder of a version of the index at ``root``."""
    return root / VERSIONS / version


def read_current(root: Path) -> str:
    """Return the version that the index at ``root`` is to be read at.

    Raises:
        ArtifactError: there is no index there, or the version is gone.
        VerificationError: the file names no version.
    """
    path = root / CURRENT
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{root}: no index here, there is no {CURRENT} file; run: udr index build TASKS --model M --out {root}"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    named = _CURRENT_CONTENT.fullmatch(content)
    if named is None:
        raise VerificationError(f"{path}: is altered, it must hold 16 hex digits and a newline; found {content[:40]!r}")
    version = named.group(1).decode()
    if not version_path(root, version).is_dir():
        raise ArtifactError(f"{path}: names version {version}, but {version_path(root, version)} does not exist")
    return version


def publish(root: Path, version: str) -> None:
    """Make ``version`` the one that the index at ``root`` is read at; readers see the old one or the new one."""
    write_atomically(root / CURRENT, f"{version}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the version in ``folder``.

    Raises:
        ArtifactError: it is missing, altered, of another format, or of another version.
    """
    path = folder / MANIFEST
    try:
        manifest = parse_manifest(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); the version is incomplete") from error
    except ArtifactError as error:
        raise type(error)(f"{path}: {error}") from error
    if manifest.version != folder.name:
        raise VerificationError(f"{path}: is of version {manifest.version}, but lies in folder {folder.name}")
    return manifest


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """A version that was found whole.

    Attributes:
        path: its folder.
        manifest: what it holds.
    """

    path: Path
    manifest: Manifest

    @property
    def model(self) -> str:
        """The name to load the encoder by: the copy in the version, else the name the index was built with."""
        carried = any(path.startswith(f"{MODEL}/") for path in self.manifest.files)
        return str(self.path / MODEL) if carried else self.manifest.encoder.name

    def vectors(self, task: str) -> NDArray[np.floating]:
        """Return a task's vectors, [count, dimension] of the manifest's dtype, mapped into memory and not writable.

        Raises:
            ArtifactError: the file is no array, or one of another shape.
        """
        path = self.path / vectors_path(task)
        try:
            vectors: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); run: udr index verify") from error
        shape = (self.manifest.partitions[task].count, self.manifest.encoder.dimension)
        if vectors.shape != shape or vectors.dtype != self.manifest.dtype:
            raise ArtifactError(
                f"{path}: must be {self.manifest.dtype} {list(shape)}, found {vectors.dtype} {list(vectors.shape)}; "
                "build it again"
            )
        return vectors

    def demonstrations(self) -> DemonstrationTable:
        """Return its rows, and how many tokens each is."""
        tokenizer = self.manifest.tokenizer
        return DemonstrationTable(self.path / DEMONSTRATIONS, tokenizer.fingerprint if tokenizer else None)


def open_version(root: Path) -> IndexVersion:
    """Open the version that ``root/CURRENT`` names, when it is complete and worded as this udr words.

    Sizes are compared here, checksums by ``udr.verification``.

    Raises:
        ArtifactError: there is no index, a part is missing, or it was made with another format or wording.
        VerificationError: a file is not what the manifest says.
    """
    folder = version_path(root, read_current(root))
    manifest = read_manifest(folder)
    if manifest.wording != ENCODER_WORDING:
        raise ArtifactError(
            f"{folder}: was built with wording {manifest.wording}, this udr words rows as {ENCODER_WORDING}; "
            "run: udr index build"
        )
    for name, stamp in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise VerificationError(f"{path}: is missing; run: udr index verify {root}")
        if path.stat().st_size != stamp.size:
            raise VerificationError(
                f"{path}: has {path.stat().st_size} bytes, the manifest says {stamp.size}; run: udr index verify {root}"
            )
    return IndexVersion(folder, manifest)
