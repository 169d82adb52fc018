"""The manifest of an index version: what it holds, what it was made with, and the checksum of every file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from udr.data import Task, TaskFamily, parse_task
from udr.errors import ArtifactError, DataError, VerificationError
from udr.files import canonical_json
from udr.models import Encoder
from udr.types import Json

FORMAT = 4
"""The version of the index format that this code writes, and the only one it reads."""


Dtype = Literal["float32", "float16"]
"""What vectors are kept as."""

DTYPES: tuple[Dtype, ...] = get_args(Dtype)

FLAT = "flat"
"""The kind of a partition that is searched by comparing with every vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderStamp:
    """Which encoder made an index.

    Attributes:
        name: the model's name, as it was asked for.
        fingerprint: of the model's files.
        dimension: the width of its vectors.
        metric: how they are compared.
    """

    name: str
    fingerprint: str
    dimension: int
    metric: str

    @staticmethod
    def of(encoder: Encoder) -> "EncoderStamp":
        """Return the stamp of an encoder."""
        return EncoderStamp(
            name=encoder.name, fingerprint=encoder.fingerprint, dimension=encoder.dimension, metric=encoder.metric
        )

    def check(self, encoder: Encoder) -> None:
        """Refuse any other encoder than the one that made the index; its name does not matter.

        Raises:
            ArtifactError: it is another one.
        """
        for what in ("fingerprint", "dimension", "metric"):
            built, found = getattr(self, what), getattr(encoder, what)
            if built != found:
                raise ArtifactError(
                    f"the index was built by encoder {self.name!r} with {what} {built}, but encoder {encoder.name!r} "
                    f"has {what} {found}; use the encoder it was built by, or run: udr index build"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerStamp:
    """Whose tokens are counted in an index.

    Attributes:
        name: the tokenizer's name, as it was asked for; the encoder's where its own was taken.
        fingerprint: of its file.
    """

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One task's part of an index.

    Attributes:
        task: the task, with the templates its rows were worded by.
        count: how many demonstrations.
        kind: how it is searched: ``FLAT``, or the faiss factory string of the index beside its vectors.
        lexical: whether a BM25 index lies beside its vectors.
    """

    task: Task
    count: int
    kind: str = FLAT
    lexical: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """What a file must be: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an index version holds.

    Attributes:
        version: the version's name, 16 hex digits that stand for all that went into it.
        encoder: the encoder that made the vectors.
        tokenizer: the tokenizer whose counts are kept beside the rows; None where there are none.
        wording: the fingerprint of what encoders read when it was built.
        dtype: what the vectors are kept as.
        families: by name.
        partitions: by task.
        files: every other file of the version, by its path in the version's folder, with ``/``.
    """

    version: str
    encoder: EncoderStamp
    tokenizer: TokenizerStamp | None
    wording: str
    dtype: Dtype
    families: Mapping[str, TaskFamily]
    partitions: Mapping[str, Partition]
    files: Mapping[str, FileStamp]

    def to_bytes(self) -> bytes:
        """Return the file's content; equal manifests give equal bytes."""
        keys: dict[str, Json] = {
            "format": FORMAT,
            "version": self.version,
            "encoder": {
                "name": self.encoder.name,
                "fingerprint": self.encoder.fingerprint,
                "dimension": self.encoder.dimension,
                "metric": self.encoder.metric,
            },
            "tokenizer": asdict(self.tokenizer) if self.tokenizer else None,
            "wording": self.wording,
            "dtype": self.dtype,
            "families": {family.name: family.instruction for family in self.families.values()},
            "tasks": {
                name: {"count": part.count, "kind": part.kind, "lexical": part.lexical, "task": part.task.to_json()}
                for name, part in self.partitions.items()
            },
            "files": {path: {"size": stamp.size, "sha256": stamp.sha256} for path, stamp in self.files.items()},
        }
        return seal(keys)


def seal(keys: Mapping[str, Json]) -> bytes:
    """Return a JSON file of these keys and the sha256 of their canonical form."""
    digest = hashlib.sha256(canonical_json(keys)).hexdigest()
    return canonical_json({**keys, "sha256": digest}, indent=1) + b"\n"


def unseal(data: bytes) -> tuple[dict[str, Any], bool]:
    """Return the keys of a file that ``seal`` wrote, and whether they fit its checksum to the byte.

    Raises:
        ValueError, AttributeError, RecursionError: it is no JSON object.
    """
    keys: dict[str, Any] = json.loads(data)
    return keys, seal({name: value for name, value in keys.items() if name != "sha256"}) == data


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest that a file's content holds.

    Raises:
        VerificationError: it is not what was written: not JSON, or its own checksum does not fit.
        ArtifactError: it has another format than this code reads.
    """
    try:
        keys, intact = unseal(data)
    except (ValueError, AttributeError, RecursionError) as error:
        raise VerificationError("the manifest is altered: it is not a JSON object") from error
    if not intact:
        raise VerificationError("the manifest is altered: it does not fit its own checksum")
    if keys.get("format") != FORMAT:
        raise ArtifactError(
            f"the index has format {keys.get('format')!r}, this udr reads format {FORMAT}; run: udr index build"
        )
    try:
        return _manifest(keys)
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise ArtifactError(f"the manifest lacks a part, or has one of the wrong kind: {error!r}") from error


def _manifest(keys: Mapping[str, Json]) -> Manifest:
    return Manifest(
        version=cast("str", keys["version"]),
        encoder=EncoderStamp(**_table(keys["encoder"])),  # type: ignore[arg-type]  # checked by its own seal
        tokenizer=_tokenizer(keys["tokenizer"]),
        wording=cast("str", keys["wording"]),
        dtype=cast("Dtype", keys["dtype"]),
        families={name: TaskFamily(name, str(text)) for name, text in _table(keys["families"]).items()},
        partitions={name: _partition(_table(part)) for name, part in _table(keys["tasks"]).items()},
        files={path: FileStamp(**_table(stamp)) for path, stamp in _table(keys["files"]).items()},  # type: ignore[arg-type]
    )


def _tokenizer(keys: Json) -> TokenizerStamp | None:
    return None if keys is None else TokenizerStamp(**_table(keys))  # type: ignore[arg-type]


def _partition(keys: Mapping[str, Json]) -> Partition:
    return Partition(
        task=parse_task(_table(keys["task"])),
        count=cast("int", keys["count"]),
        kind=cast("str", keys["kind"]),
        lexical=cast("bool", keys["lexical"]),
    )


def _table(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(f"must be an object, found {value!r}")
    return value
