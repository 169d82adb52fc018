"""Near-duplicates: rows whose inputs are not copies, but which an encoder takes for almost the same.

What is encoded is the worded input alone: an instruction, which all rows share, would make all of them alike, and a
target would keep apart what asks the same. An encoder that was trained for a task puts inputs with like answers
together, whatever they say; to find near-duplicates, take a general one.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from udr.data import Kind as TaskKind
from udr.models import Encoder
from udr.search import Vectors
from udr_index.build import encode_by_length
from udr_index.plural import counted
from udr_index.quality.cosine_pairs import Alike, alike, alike_to
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

_log = logging.getLogger(__name__)
_BATCH = 256


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """A split and the vectors of its inputs; of copies, the first stands for all.

    Attributes:
        split: the split.
        positions: of the rows that have a vector, ascending.
        vectors: float32 [len(positions), dimension], of unit length.
    """

    split: Split
    positions: Sequence[int]
    vectors: Vectors


def encode(split: Split, encoder: Encoder) -> EncodedSplit:
    """Encode the inputs of a split.

    Raises:
        ModelError: the encoder gave vectors of another shape, or numbers that are none.
    """
    started = time.monotonic()
    positions = [group[0] for group in split.copies.values()]
    texts = [split.inputs[position] for position in positions]
    vectors = encode_by_length(encoder, texts, split.task.name, _BATCH)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    _log.info("encoded %s/%s: %d inputs, %.1f s", split.task.name, split.name, len(texts), time.monotonic() - started)
    return EncodedSplit(split, positions, vectors)


def near_duplicates(encoded: EncodedSplit, threshold: float) -> Iterator[Finding]:
    """Yield the rows of a split that are near to an earlier one; in groups, those with the nearest pairs first."""
    found = _nearest_first(alike(encoded.vectors, threshold))
    if not found:
        return
    split, positions = encoded.split, encoded.positions
    groups: dict[int, list[int]] = {}
    for pair in found:
        groups.setdefault(pair.other, [pair.other]).append(pair.position)
    message = (
        f"{counted(len(found), 'row is', 'rows are')} near to an earlier row ({_similarities(found)}"
        f"{_other_targets(encoded, found)}); look at them, and keep one of those that ask the same"
    )
    ids = [split.ids([positions[place] for place in group]) for group in groups.values()]
    yield split.finding(Kind.NEAR_DUPLICATE, len(found), message, ids)


def near_leaks(encoded: EncodedSplit, earlier: EncodedSplit, threshold: float) -> Iterator[Finding]:
    """Yield the rows of a split that are near to one of an earlier split, and not copies of any."""
    split, other = encoded.split, earlier.split
    # In the order of the vectors: both come in the order in which inputs first occur.
    new = [place for place, key in enumerate(split.copies) if key not in other.copies]
    found = _nearest_first(alike_to(encoded.vectors[new], earlier.vectors, threshold))
    if found:
        pairs = [
            (split.rows[encoded.positions[new[pair.position]]].id, other.rows[earlier.positions[pair.other]].id)
            for pair in found
        ]
        message = (
            f"{split.part(len(pairs), 'is/are')} near to a row of {other.name} ({_similarities(found)}); look at "
            "them, and remove those that ask the same from one of the two"
        )
        yield split.finding(Kind.NEAR_LEAK, len(pairs), message, pairs, against=other.name)


def _nearest_first(found: Sequence[Alike]) -> list[Alike]:
    return sorted(found, key=lambda pair: (-pair.similarity, pair.position))


def _similarities(found: Sequence[Alike]) -> str:
    low, high = f"{found[-1].similarity:.3f}", f"{found[0].similarity:.3f}"
    return f"similarity {low}" if low == high else f"similarity {low} to {high}"


def _other_targets(encoded: EncodedSplit, found: Sequence[Alike]) -> str:
    if encoded.split.task.kind is not TaskKind.CLASSIFICATION:
        return ""
    targets = [encoded.split.rows[position].target for position in encoded.positions]
    other = sum(targets[pair.position] != targets[pair.other] for pair in found)
    return f", {other} with another label" if other else ""
