"""Are an index's vectors what its encoder gives for its rows? A sample of them is encoded again."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from udr.data import encoder_demonstration, sample_by
from udr.models import Encoder
from udr.store import Finding, IndexVersion, vectors_path
from udr_index.build import checked

TOLERANCE = 0.01
"""How far a vector may lie from its new one, as a share of its length: what batches, devices and float16 change."""


def compare_vectors(version: IndexVersion, encoder: Encoder, count: int) -> Iterator[Finding]:
    """Encode some rows of each partition again, and tell of vectors that are others than before.

    Args:
        version: the index version.
        encoder: the encoder that made it.
        count: rows of each partition, by seed.

    Yields:
        A finding for each partition with such vectors; paths are relative to the version.

    Raises:
        ArtifactError: the encoder is another one.
    """
    version.manifest.encoder.check(encoder)
    with closing(version.demonstrations()) as table:
        for task, part in version.manifest.partitions.items():
            positions = sorted(sample_by(range(part.count), count, 0, str))
            texts = [encoder_demonstration(part.task, row) for row in table.rows(task, positions)]
            new = checked(encoder, texts, task)
            kept = version.vectors(task)[positions].astype(np.float32)
            far = np.linalg.norm(kept - new, axis=1) > TOLERANCE * np.linalg.norm(new, axis=1)
            if far.any():
                ids = table.ids(task, [positions[place] for place in np.flatnonzero(far)[:3]])
                yield Finding(
                    vectors_path(task),
                    f"{far.sum()} of {len(positions)} vectors are not what the encoder gives now, as those of "
                    f"{', '.join(map(repr, ids))}",
                )
