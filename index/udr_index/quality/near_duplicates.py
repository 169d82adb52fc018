"""Near-duplicates: rows whose inputs are not copies, but which an encoder considers almost the same.

Inputs are encoded alone: the instruction would make all rows alike, and the target would separate rows that ask the
same. Use a general encoder: one that was trained for a task puts inputs with the same answer together.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from udr.data import Kind as TaskKind
from udr.models import Encoder, LongTexts, SentenceEncoder, encode_by_length
from udr.search import Vectors
from udr_index.plural import counted
from udr_index.quality.cosine_pairs import Alike, alike, alike_to
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

_log = logging.getLogger(__name__)
_BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """A split, and vectors of unit length of the rows at some positions.

    Of copies, only the first is encoded. Inputs that exceed the encoder's window are left out: two of them may differ
    only in what the encoder does not read. ``keys`` are the copy keys of the rows.
    """

    split: Split
    positions: Sequence[int]
    keys: Sequence[bytes]
    vectors: Vectors
    long: LongTexts


def encode(split: Split, encoder: Encoder) -> EncodedSplit:
    """Encode the inputs of a split."""
    started = time.monotonic()
    long = LongTexts(encoder.window if isinstance(encoder, SentenceEncoder) else None)
    first = {key: group[0] for key, group in split.copies.items()}
    cut = long.add([split.inputs[position] for position in first.values()])
    keys = [key for key, exceeds in zip(first, cut, strict=True) if not exceeds]
    positions = [first[key] for key in keys]
    texts = [split.inputs[position] for position in positions]
    vectors = encode_by_length(encoder, texts, split.task.name, _BATCH_SIZE)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, norms, out=vectors, where=norms > 0)
    _log.info("encoded %s/%s: %d inputs, %.1f s", split.task.name, split.name, len(texts), time.monotonic() - started)
    return EncodedSplit(split, positions, keys, vectors, long)


def cut_by_encoder(encoded: EncodedSplit) -> Iterator[Finding]:
    """Yield the number of inputs that the encoder does not read whole, which are not compared."""
    if notice := encoded.long.notice("different inputs"):
        message = f"{notice}; these are not compared with others"
        yield encoded.split.finding(Kind.CUT_BY_ENCODER, encoded.long.count, message)


def near_duplicates(encoded: EncodedSplit, threshold: float) -> Iterator[Finding]:
    """Yield the rows of a split that are near to an earlier one, grouped; groups with the nearest pairs come first."""
    pairs = _nearest_first(alike(encoded.vectors, threshold))
    if not pairs:
        return
    split, positions = encoded.split, encoded.positions
    groups: dict[int, list[int]] = {}
    for pair in pairs:
        groups.setdefault(pair.other, [pair.other]).append(pair.position)
    message = (
        f"{counted(len(pairs), 'row is', 'rows are')} very similar to an earlier row ({_similarities(pairs)}"
        f"{_other_labels(encoded, pairs)}); review them, and keep one of those that ask the same"
    )
    ids = [split.ids([positions[vector] for vector in group]) for group in groups.values()]
    yield split.finding(Kind.NEAR_DUPLICATE, len(pairs), message, ids)


def near_leaks(encoded: EncodedSplit, earlier: EncodedSplit, threshold: float) -> Iterator[Finding]:
    """Yield the rows of a split that are near to one of an earlier split, and copies of none."""
    split, other = encoded.split, earlier.split
    new = [vector for vector, key in enumerate(encoded.keys) if key not in other.copies]
    pairs = _nearest_first(alike_to(encoded.vectors[new], earlier.vectors, threshold))
    if pairs:
        ids = [
            (split.rows[encoded.positions[new[pair.position]]].id, other.rows[earlier.positions[pair.other]].id)
            for pair in pairs
        ]
        message = (
            f"{split.part(len(ids), 'is/are')} very similar to a row of {other.name} ({_similarities(pairs)}); review "
            "them, and remove those that ask the same from one of the two"
        )
        yield split.finding(Kind.NEAR_LEAK, len(ids), message, ids, against=other.name)


def _nearest_first(pairs: Sequence[Alike]) -> list[Alike]:
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.position))


def _similarities(pairs: Sequence[Alike]) -> str:
    low, high = f"{pairs[-1].similarity:.3f}", f"{pairs[0].similarity:.3f}"
    return f"similarity {low}" if low == high else f"similarity {low} to {high}"


def _other_labels(encoded: EncodedSplit, pairs: Sequence[Alike]) -> str:
    if encoded.split.task.kind is not TaskKind.CLASSIFICATION:
        return ""
    targets = [encoded.split.rows[position].target for position in encoded.positions]
    other = sum(targets[pair.position] != targets[pair.other] for pair in pairs)
    return f", {other} with another label" if other else ""
