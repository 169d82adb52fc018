"""The manifest of an index version: its contents, how it was built, and the checksum of every file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from udr.data import Task, TaskFamily, parse_task
from udr.errors import ArtifactError, DataError, VerificationError, reason
from udr.files import canonical_json, check_format
from udr.models import Encoder
from udr.search import LOWER, RULES
from udr.store.untrusted import check_manifest
from udr.types import Json

FORMAT = 4
"""The version of the index format that this code writes, unless a version needs a later one."""

FIELDS_FORMAT = 5
"""The format of a version with a label head that reads fields apart, which earlier code would apply wrongly."""

Dtype = Literal["float32", "float16"]
"""The type of stored vectors."""

DTYPES: tuple[Dtype, ...] = get_args(Dtype)

FLAT = "flat"
"""The kind of a partition that is searched by comparing with every vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderStamp:
    """The encoder that built an index: its name as given, the rest as ``Encoder`` has it."""

    name: str
    fingerprint: str
    dimension: int
    metric: str

    @staticmethod
    def of(encoder: Encoder) -> "EncoderStamp":
        """Return the stamp of an encoder."""
        return EncoderStamp(**{field.name: getattr(encoder, field.name) for field in fields(EncoderStamp)})

    def check(self, encoder: Encoder) -> None:
        """Raise ``ArtifactError`` unless this encoder built the index, whatever its name."""
        for name in ("fingerprint", "dimension", "metric"):
            expected, actual = getattr(self, name), getattr(encoder, name)
            if expected != actual:
                raise ArtifactError(
                    f"the index was built by encoder {self.name!r} with {name} {expected}, but encoder "
                    f"{encoder.name!r} has {name} {actual}; use the encoder that built it, or run: udr index build"
                )


def definition(
    encoder: EncoderStamp, wording: str, families: Mapping[str, TaskFamily], tasks: Mapping[str, Task]
) -> str:
    """Return a hash of all that a version is but its rows: versions of the same can be searched as one."""
    keys: list[Json] = [
        *(encoder.fingerprint, encoder.dimension, encoder.metric, wording),
        {name: family.instruction for name, family in families.items()},
        {name: task.to_json() for name, task in tasks.items()},
    ]
    return hashlib.sha256(canonical_json(keys)).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerStamp:
    """The tokenizer whose counts an index stores: its name as given, or the encoder's, and its file's fingerprint."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelHeadStamp:
    """The label head of a task: what its files hold, and what cross-validation on the pool showed.

    Attributes:
        labels: the labels that it knows, sorted.
        alpha: what a probability of 1 adds to a similarity.
        width: the number of dimensions that a faiss index of the task has in addition; at least one for each label.
        strength: the inverse of the regularisation (scikit-learn's C).
        rows: how many rows of the pool it was fitted on.
        share_without: the share of the four nearest that have a held-out row's label, without the head.
        share: the same with it.
        fields: the two fields of a query that it reads apart; empty if it reads the query as a whole.
    """

    labels: tuple[str, ...]
    alpha: float
    width: int
    strength: float
    rows: int
    share_without: float
    share: float
    fields: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return the keys as manifests hold them; without fields, those of before there were any."""
        keys = {**asdict(self), "labels": list(self.labels), "fields": list(self.fields)}
        return keys if self.fields else {name: value for name, value in keys.items() if name != "fields"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One task's part of an index.

    Attributes:
        task: the task, with the templates that format its rows.
        count: how many demonstrations it has.
        kind: how it is searched: ``FLAT``, or the factory string of its faiss index.
        lexical: the rule by which its BM25 index splits words (see ``udr.search.RULES``); None without one.
        label_head: its label head; None without one.
    """

    task: Task
    count: int
    kind: str = FLAT
    lexical: str | None = None
    label_head: LabelHeadStamp | None = None

    def lexical_json(self) -> bool | str:
        """Return ``lexical`` as manifests hold it: false without BM25, true by the rule that they did not name yet."""
        return {None: False, LOWER: True}.get(self.lexical, self.lexical or False)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """A file's size in bytes and its sha256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The contents of an index version.

    Attributes:
        version: the version's name, 16 hex digits that identify everything it was built from.
        encoder: the encoder that made the vectors.
        tokenizer: the tokenizer whose counts are stored; None if there are none.
        wording: the fingerprint of how rows are formatted for encoders.
        dtype: the type of the vectors.
        families: by name.
        partitions: by task.
        files: every other file of the version, by its path relative to the version's folder, with ``/``.
    """

    version: str
    encoder: EncoderStamp
    tokenizer: TokenizerStamp | None
    wording: str
    dtype: Dtype
    families: Mapping[str, TaskFamily]
    partitions: Mapping[str, Partition]
    files: Mapping[str, FileStamp]

    @property
    def format(self) -> int:
        """The version of the index format: the earliest that holds it."""
        heads = (part.label_head for part in self.partitions.values())
        return FIELDS_FORMAT if any(head is not None and head.fields for head in heads) else FORMAT

    def to_bytes(self) -> bytes:
        """Return the file's content; equal manifests give equal bytes."""
        keys: dict[str, Json] = {
            "format": self.format,
            "version": self.version,
            "encoder": asdict(self.encoder),
            "tokenizer": asdict(self.tokenizer) if self.tokenizer else None,
            "wording": self.wording,
            "dtype": self.dtype,
            "families": {family.name: family.instruction for family in self.families.values()},
            "tasks": {
                name: {
                    "count": part.count,
                    "kind": part.kind,
                    "lexical": part.lexical_json(),
                    "task": part.task.to_json(),
                    # Absent without one, as in indexes of before there were any.
                    **({"label_head": part.label_head.to_json()} if part.label_head else {}),
                }
                for name, part in self.partitions.items()
            },
            "files": {path: asdict(stamp) for path, stamp in self.files.items()},
        }
        return seal(keys)


def seal(keys: Mapping[str, Json]) -> bytes:
    """Return a JSON file of these keys and the sha256 of their canonical form."""
    digest = hashlib.sha256(canonical_json(keys)).hexdigest()
    return canonical_json({**keys, "sha256": digest}, indent=1) + b"\n"


def unseal(data: bytes) -> tuple[dict[str, Any], bool]:
    """Return the keys of a file that ``seal`` wrote, and whether the file is intact to the byte.

    Raises:
        ValueError, AttributeError, RecursionError: it is not a JSON object.
    """
    keys: dict[str, Any] = json.loads(data)
    return keys, seal({name: value for name, value in keys.items() if name != "sha256"}) == data


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest in a file's content.

    Raises:
        VerificationError: the content is not JSON or does not match its own checksum.
        ArtifactError: it has another format.
    """
    try:
        keys, intact = unseal(data)
    except (ValueError, AttributeError, RecursionError) as error:
        raise VerificationError("the manifest is altered: it is not a JSON object") from error
    if not intact:
        raise VerificationError("the manifest is altered: it does not match its own checksum")
    check_format(keys.get("format"), FIELDS_FORMAT, "the index", "udr index build", oldest=FORMAT)
    try:
        return _manifest(keys)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, DataError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        raise ArtifactError(f"the manifest has a missing or invalid part: {problem[:400]}") from error


def _rule(lexical: object) -> str | None:
    if lexical in (True, False):
        return LOWER if lexical else None
    if not isinstance(lexical, str) or lexical not in RULES:
        raise ValueError(f"BM25 words by an unknown rule {lexical!r}; use the version of udr that built the index")
    return lexical


def _label_head(keys: Mapping[str, Any] | None) -> LabelHeadStamp | None:
    if keys is None:
        return None
    return LabelHeadStamp(**{**keys, "labels": tuple(keys["labels"]), "fields": tuple(keys.get("fields", ()))})


def _manifest(keys: Mapping[str, Any]) -> Manifest:
    tokenizer = keys["tokenizer"]
    manifest = Manifest(
        version=keys["version"],
        encoder=EncoderStamp(**keys["encoder"]),
        tokenizer=None if tokenizer is None else TokenizerStamp(**tokenizer),
        wording=keys["wording"],
        dtype=cast("Dtype", keys["dtype"]),
        families={name: TaskFamily(name, str(text)) for name, text in keys["families"].items()},
        partitions={
            name: Partition(
                task=parse_task(part["task"]),
                count=part["count"],
                kind=part["kind"],
                lexical=_rule(part["lexical"]),
                label_head=_label_head(part.get("label_head")),
            )
            for name, part in keys["tasks"].items()
        },
        files={path: FileStamp(**stamp) for path, stamp in keys["files"].items()},
    )
    check_manifest(manifest)
    return manifest
