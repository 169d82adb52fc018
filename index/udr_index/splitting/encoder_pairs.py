"""Near-duplicates by an encoder, as ``udr tasks check --model`` finds them between splits."""

from collections.abc import Sequence

from udr.data import Task
from udr.models import Encoder
from udr.types import Row
from udr_index.quality import NEAR, Split, alike_to, encode
from udr_index.splitting.holdout import Pairs


def near_pairs(task: Task, rows: Sequence[Row], encoder: Encoder, threshold: float = NEAR) -> Pairs:
    """Encode the inputs of rows once; return what tells which of some positions are near to which of others.

    Inputs that exceed the encoder's window are compared with none.
    """
    encoded = encode(Split(task, "all", rows), encoder)
    vector_of = {position: vector for vector, position in enumerate(encoded.positions)}

    def near(some: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        queries, stored = ([position for position in side if position in vector_of] for side in (some, others))
        vectors, other_vectors = (encoded.vectors[[vector_of[one] for one in side]] for side in (queries, stored))
        pairs = alike_to(vectors, other_vectors, threshold)
        return [(queries[pair.position], stored[pair.other]) for pair in pairs]

    return near
