"""Comparing a sample of an index's vectors with what its encoder returns."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from udr.data import encoder_demonstration, sample_by
from udr.models import Encoder, encode_checked
from udr.store import Finding, IndexVersion, vectors_path

TOLERANCE = 0.01
"""The distance of two vectors of one text, relative to their length, that batches, devices and float16 may cause."""


def compare_vectors(version: IndexVersion, encoder: Encoder, count: int) -> Iterator[Finding]:
    """Encode ``count`` rows of each partition again, and yield a finding for each partition with other vectors.

    Raises:
        ArtifactError: the index has another encoder.
    """
    version.manifest.encoder.check(encoder)
    with closing(version.demonstrations()) as table:
        for task, part in version.manifest.partitions.items():
            positions = sorted(sample_by(range(part.count), count, 0, str))
            texts = [encoder_demonstration(part.task, row) for row in table.rows(task, positions)]
            expected = encode_checked(encoder, texts, task)
            stored = version.vectors(task)[positions].astype(np.float32)
            distances = np.linalg.norm(stored - expected, axis=1)
            wrong = np.flatnonzero(distances > TOLERANCE * np.linalg.norm(expected, axis=1))
            if len(wrong):
                ids = ", ".join(map(repr, table.ids(task, [positions[position] for position in wrong[:3]])))
                problem = f"{len(wrong)} of {len(positions)} vectors differ from the encoder's output, such as {ids}"
                yield Finding(vectors_path(task), problem)
