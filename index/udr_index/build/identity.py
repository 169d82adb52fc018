"""What goes into an index version, and the name that stands for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from udr.data import ENCODER_WORDING, TaskFamily
from udr.files import canonical_json
from udr.store import FORMAT, DemonstrationTable, Dtype, EncoderStamp, FileStamp, Manifest, Partition, TokenizerStamp
from udr.types import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildIdentity:
    """All that decides what is in a version; known before anything is encoded.

    Attributes:
        version: the version's name: 16 hex digits of a hash over all of this. Equal contents give equal names.
        vectors: the same of what decides the vectors alone: contents that differ in how they are searched, or in whose
            tokens are counted, share it.
        encoder: the encoder that makes the vectors.
        tokenizer: the tokenizer whose tokens are counted; None where none are.
        carries_model: whether the version holds a copy of the encoder.
        dtype: what vectors are kept as.
        families: by name.
        partitions: by task, in the order of their names.
    """

    version: str
    vectors: str
    encoder: EncoderStamp
    tokenizer: TokenizerStamp | None
    carries_model: bool
    dtype: Dtype
    families: Mapping[str, TaskFamily]
    partitions: Mapping[str, Partition]

    @staticmethod
    def of(
        table: DemonstrationTable,
        encoder: EncoderStamp,
        tokenizer: TokenizerStamp | None,
        dtype: Dtype,
        families: Mapping[str, TaskFamily],
        partitions: Mapping[str, Partition],
        *,
        carries_model: bool,
    ) -> "BuildIdentity":
        """Return the contents of a version with the rows in ``table``."""
        whole, vectors = hashlib.sha256(), hashlib.sha256()
        made_by: dict[str, Json] = {
            "format": FORMAT,
            "wording": ENCODER_WORDING,
            "encoder": [encoder.name, encoder.fingerprint, encoder.dimension, encoder.metric],
            "carries_model": carries_model,
            "dtype": dtype,
            "families": {family.name: family.instruction for family in families.values()},
        }
        for digest in (whole, vectors):
            digest.update(canonical_json(made_by))
        whole.update(b"\n" + canonical_json([tokenizer.name, tokenizer.fingerprint] if tokenizer else None))
        for name, part in partitions.items():
            task = part.task.to_json()
            whole.update(b"\n" + canonical_json([part.kind, part.lexical, task]))
            vectors.update(b"\n" + canonical_json(task))
            for line in table.lines(name):
                for digest in (whole, vectors):
                    digest.update(line)
        return BuildIdentity(
            version=whole.hexdigest()[:16],
            vectors=vectors.hexdigest()[:16],
            encoder=encoder,
            tokenizer=tokenizer,
            carries_model=carries_model,
            dtype=dtype,
            families=families,
            partitions=partitions,
        )

    def manifest(self, files: Mapping[str, FileStamp]) -> Manifest:
        """Return the manifest of a version with these contents and files."""
        return Manifest(
            version=self.version,
            encoder=self.encoder,
            tokenizer=self.tokenizer,
            wording=ENCODER_WORDING,
            dtype=self.dtype,
            families=self.families,
            partitions=self.partitions,
            files=files,
        )
