"""Encoding a pool: its demonstrations to vectors, batch by batch, and to a file once all are there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from udr.encoder import Encoder, Vectors
from udr.errors import ModelError
from udr.files import write_atomically
from udr.pool import Pool
from udr.text import encoder_demonstration

Advance = Callable[[int], None]
"""Is told how many more demonstrations are encoded."""


def encode_pool(encoder: Encoder, pool: Pool, batch_size: int, advance: Advance) -> Vectors:
    """Return the vectors of a pool's demonstrations, float32 [len(pool), dimension], in the pool's order.

    Texts of like length are encoded together, so that little is padded; equal texts once, so that they tie.

    Raises:
        ModelError: the encoder gave vectors of another shape, or numbers that are none.
    """
    texts = [encoder_demonstration(pool.task, row) for row in pool.rows]
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    vectors = np.empty((len(distinct), encoder.dimension), dtype=np.float32)
    for start in range(0, len(distinct), batch_size):
        batch = distinct[start : start + batch_size]
        encoded = encoder.encode_demonstrations(batch)
        if encoded.shape != (len(batch), encoder.dimension) or not np.isfinite(encoded).all():
            raise ModelError(
                f"encoder {encoder.name!r} gave {list(encoded.shape)} for {len(batch)} texts of task "
                f"{pool.task.name!r}, or numbers that are not finite; [{len(batch)}, {encoder.dimension}] was expected"
            )
        vectors[start : start + batch_size] = encoded
        advance(len(batch))
    advance(len(texts) - len(distinct))
    places = {text: place for place, text in enumerate(distinct)}
    return vectors[[places[text] for text in texts]]


def save_vectors(path: Path, vectors: Vectors) -> None:
    """Write vectors to a ``.npy`` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda stream: np.save(stream, vectors, allow_pickle=False))
