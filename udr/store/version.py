"""The index on disk: ``DIR/versions/<version>/``, immutable once written, and ``DIR/CURRENT``, which names one.

A version contains::

    manifest.json                      written last; the checksum of every other file
    model/                             the encoder, if it was given as a local path
    encoder/                           the encoder, exported for ONNX Runtime; see ``udr.models.onnx``
    demonstrations.sqlite              the rows, and how many tokens each has
    partitions/<task>/vectors.npy      float32 or float16 [count, dimension], in the order of the rows' ids
    partitions/<task>/index.faiss      the faiss index of those vectors, unless the partition is flat
    partitions/<task>/bm25/            the BM25 index of the rows' inputs, if any
    partitions/<task>/label_head/      the label head, if any: weights.npy, and codes.npy, the label of each row
    search.json                        how to search those indexes; see ``SearchSettings``

``DIR/live/log`` has what was written on top of the versions; see ``udr.store.live``.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from udr.data import ENCODER_WORDING, task_files
from udr.errors import ArtifactError, VerificationError
from udr.files import read_bytes, refuse_remote, write_atomically
from udr.models import COUNTER, DESCRIPTION, INT8_GRAPH
from udr.search import FIELD_FEATURES, LabelHead, open_array
from udr.store.manifest import Manifest, parse_manifest
from udr.store.rows import DemonstrationTable
from udr.store.untrusted import VERSION_NAME, Contained, refuse_outside, root_of, vectors_fit

CURRENT = "CURRENT"
COPY_OF = "COPY_OF"
"""In an index directory that is a copy of a remote index, the file that has its URL. Writes to it would be lost."""

VERSIONS = "versions"
LIVE = "live"
MANIFEST = "manifest.json"
MODEL = "model"
ENCODER = "encoder"
DEMONSTRATIONS = "demonstrations.sqlite"
WEIGHTS, CODES = "weights.npy", "codes.npy"

_HEAD_DTYPES = np.dtype(np.float64), np.dtype(np.int32)
_LARGEST_WEIGHT = 1e6
LARGEST_CURRENT = 4096
LARGEST_MANIFEST = 64 * 1024 * 1024
_CURRENT_CONTENT = re.compile(rf"({VERSION_NAME})\n".encode())


def vectors_path(task: str) -> str:
    """Return the path of a task's vectors, relative to a version's folder."""
    return f"partitions/{task}/vectors.npy"


def index_path(task: str) -> str:
    """Return the path of a task's faiss index, relative to a version's folder."""
    return f"partitions/{task}/index.faiss"


def bm25_path(task: str) -> str:
    """Return the path of a task's BM25 index, relative to a version's folder."""
    return f"partitions/{task}/bm25"


def label_head_path(task: str) -> str:
    """Return the path of a task's label head, relative to a version's folder."""
    return f"partitions/{task}/label_head"


def version_path(root: Path, version: str) -> Path:
    """Return the folder of a version of the index at ``root``."""
    return root / VERSIONS / version


def is_index(path: str) -> bool:
    """Return whether a path, or any text, is that of an index directory."""
    try:
        return (Path(path) / CURRENT).is_file()
    except (OSError, ValueError):
        return False


def copied_from(root: Path) -> str | None:
    """Return the URL of the remote index that an index directory is a copy of; None if it is no copy."""
    path = root / COPY_OF
    return path.read_text("utf-8").strip() if path.is_file() else None


def read_current(root: Path) -> str:
    """Return the current version of the index at ``root``.

    Raises:
        ArtifactError: there is no index, or the version does not exist.
        VerificationError: the file does not name a version.
    """
    refuse_remote(root)
    path = root / CURRENT
    try:
        refuse_outside(path, root.resolve())
        content = read_bytes(path, LARGEST_CURRENT)
    except FileNotFoundError as error:
        remedy = f"run: udr index build TASKS --out {root}"
        if next(task_files(root), None) is not None:
            remedy = f"it is a folder of tasks; run: udr index build {root} --out INDEX, and name INDEX instead"
        raise ArtifactError(f"{root}: no index here (no file {CURRENT}); {remedy}") from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    version = current_version(content, str(path))
    if not version_path(root, version).is_dir():
        raise ArtifactError(f"{path}: names version {version}, but {version_path(root, version)} does not exist")
    return version


def find_current(root: Path) -> str | None:
    """Return the current version of the index at ``root``; None if there is none."""
    try:
        return read_current(root)
    except ArtifactError:
        return None


def current_version(content: bytes, place: str) -> str:
    """Return the version that the content of ``CURRENT`` names; ``VerificationError`` if it names none."""
    match = _CURRENT_CONTENT.fullmatch(content)
    if match is None:
        raise VerificationError(f"{place}: is altered: it must be 16 hex digits and a newline; found {content[:40]!r}")
    return match.group(1).decode()


def publish(root: Path, version: str) -> None:
    """Make a version of the index at ``root`` current, atomically."""
    write_atomically(root / CURRENT, f"{version}\n".encode())


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the version in ``folder``.

    Raises:
        ArtifactError: it is missing, altered, or of another format or version.
    """
    path = folder / MANIFEST
    try:
        refuse_outside(path, root_of(folder))
        manifest = parse_manifest(read_bytes(path, LARGEST_MANIFEST))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); the version is incomplete") from error
    except ArtifactError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    if manifest.version != folder.name:
        raise VerificationError(f"{path}: is of version {manifest.version}, but is in folder {folder.name}")
    return manifest


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """A complete version: its folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def root(self) -> Path:
        """The index directory."""
        return self.path.parents[1]

    @property
    def model(self) -> str:
        """Its encoder: the copy in the version, else the name given when the index was built; see ``encoder_name``."""
        return str(self.path / MODEL) if self.has_model else self.manifest.encoder.name

    @property
    def has_model(self) -> bool:
        """Whether the version contains its encoder."""
        return any(path.startswith(f"{MODEL}/") for path in self.manifest.files)

    @property
    def has_export(self) -> bool:
        """Whether the version contains its encoder as ONNX Runtime reads it."""
        return f"{ENCODER}/{DESCRIPTION}" in self.manifest.files

    @property
    def has_int8(self) -> bool:
        """Whether its export has a graph in 8 bits."""
        return f"{ENCODER}/query/{INT8_GRAPH}" in self.manifest.files

    @property
    def tokenizer(self) -> str | None:
        """The folder of the encoder's own tokenizer in the version; None if there is none."""
        counter = f"{ENCODER}/{COUNTER}"
        if self.has_model:
            return self.model
        return str(self.path / counter) if any(path.startswith(f"{counter}/") for path in self.manifest.files) else None

    def vectors(self, task: str) -> NDArray[np.floating]:
        """Return a task's vectors, [count, dimension] of the manifest's dtype, memory-mapped and read-only.

        Raises:
            ArtifactError: the file is not an array, or has another shape or dtype.
        """
        path = self.path / vectors_path(task)
        vectors = cast("NDArray[np.floating]", open_array(path))
        shape = (self.manifest.partitions[task].count, self.manifest.encoder.dimension)
        if vectors.shape != shape or vectors.dtype != self.manifest.dtype:
            raise ArtifactError(
                f"{path}: must be {self.manifest.dtype} {list(shape)}, found {vectors.dtype} {list(vectors.shape)}; "
                "build it again"
            )
        return vectors

    def label_head(self, task: str) -> LabelHead | None:
        """Return a task's label head; None if it has none.

        Raises:
            ArtifactError: a file is not an array, or has another shape, dtype or numbers that mean nothing.
        """
        part = self.manifest.partitions[task]
        if (stamp := part.label_head) is None:
            return None
        folder = self.path / label_head_path(task)
        weights, codes = open_array(folder / WEIGHTS), open_array(folder / CODES)
        num_features = self.manifest.encoder.dimension * (FIELD_FEATURES if stamp.fields else 1)
        shapes = (len(stamp.labels), num_features + 1), (part.count,)
        if (weights.shape, codes.shape) != shapes or (weights.dtype, codes.dtype) != _HEAD_DTYPES:
            raise ArtifactError(
                f"{folder}: its arrays have another shape or dtype than the manifest says; build it again"
            )
        # False if there is a NaN.
        bounded = (np.abs(weights) <= _LARGEST_WEIGHT).all()
        if not bounded or codes.min() < -1 or codes.max() >= len(stamp.labels):
            raise ArtifactError(f"{folder}: its numbers are not weights of labels, or labels of rows; build it again")
        # In memory: they are small, and a file that is truncated later does no harm.
        return LabelHead(np.array(weights), np.array(codes), stamp.alpha, stamp.width, stamp.fields)

    def demonstrations(self) -> DemonstrationTable:
        """Return the rows, and how many tokens each has."""
        tokenizer = self.manifest.tokenizer
        return DemonstrationTable(self.path / DEMONSTRATIONS, tokenizer.fingerprint if tokenizer else None)


def refuse_wording(manifest: Manifest, place: Path | str) -> None:
    """Raise an ``ArtifactError`` if the version at a place was built with another wording than this udr has."""
    if manifest.wording != ENCODER_WORDING:
        wordings = f"was built with wording {manifest.wording}, but this udr has wording {ENCODER_WORDING}"
        raise ArtifactError(f"{place}: {wordings}; run: udr index build")


def open_version(root: Path, version: str | None = None) -> IndexVersion:
    """Open a version of the index at ``root``, by default the current one, and check the size of every file.

    Raises:
        ArtifactError: there is no index, a part is missing, or it has another format or wording.
        VerificationError: a file differs from the manifest.
    """
    folder = version_path(root, version or read_current(root))
    manifest = read_manifest(folder)
    refuse_wording(manifest, folder)
    contained = Contained(folder)
    for name, stamp in manifest.files.items():
        path = folder / name
        state = contained.state(name)
        if state is None:
            raise VerificationError(f"{path}: is missing; run: udr index verify {root}")
        if state.st_size != stamp.size:
            sizes = f"has {state.st_size} bytes, the manifest says {stamp.size}"
            raise VerificationError(f"{path}: {sizes}; run: udr index verify {root}")
    _check_sizes(folder, manifest)
    return IndexVersion(folder, manifest)


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    """Refuse numbers of rows that the files, whose sizes are known to be true, cannot hold."""
    for name, part in manifest.partitions.items():
        stamp = manifest.files.get(vectors_path(name))
        if stamp is None or not vectors_fit(manifest, name, stamp.size):
            size = "is not listed" if stamp is None else f"has {stamp.size} bytes"
            rows = f"{part.count} vectors of {manifest.encoder.dimension} numbers in {manifest.dtype}"
            raise ArtifactError(f"{folder / MANIFEST}: says {rows}, but {vectors_path(name)} {size}; build it again")
    if DEMONSTRATIONS not in manifest.files:
        raise ArtifactError(f"{folder / MANIFEST}: lists no {DEMONSTRATIONS}; build it again")
