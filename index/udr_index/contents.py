"""What goes into an index version, and the name that stands for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from udr.demonstrations import pool_lines
from udr.files import canonical_json
from udr.manifest import FORMAT, EncoderStamp, FileStamp, Manifest, Partition
from udr.pool import Pool
from udr.tasks import TaskFamily
from udr.text import ENCODER_WORDING
from udr.types import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """All that decides what is in a version; known before anything is encoded.

    Attributes:
        encoder: the encoder that makes the vectors.
        carries_model: whether the version holds a copy of the encoder.
        families: by name.
        pools: by task.
    """

    encoder: EncoderStamp
    carries_model: bool
    families: Mapping[str, TaskFamily]
    pools: Mapping[str, Pool]

    @property
    def version(self) -> str:
        """The version's name: 16 hex digits of a hash over all of this. Equal contents give equal names."""
        digest = hashlib.sha256()
        made_by: dict[str, Json] = {
            "format": FORMAT,
            "wording": ENCODER_WORDING,
            "encoder": [self.encoder.name, self.encoder.fingerprint, self.encoder.dimension, self.encoder.metric],
            "carries_model": self.carries_model,
            "families": {family.name: family.instruction for family in self.families.values()},
        }
        digest.update(canonical_json(made_by))
        for name in sorted(self.pools):
            for line in pool_lines(self.pools[name]):
                digest.update(line)
        return digest.hexdigest()[:16]

    def manifest(self, files: Mapping[str, FileStamp]) -> Manifest:
        """Return the manifest of a version with these contents and files."""
        return Manifest(
            version=self.version,
            encoder=self.encoder,
            wording=ENCODER_WORDING,
            families=self.families,
            partitions={name: Partition(task=pool.task, count=len(pool)) for name, pool in self.pools.items()},
            files=files,
        )
