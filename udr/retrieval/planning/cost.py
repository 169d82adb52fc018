"""What a plan costs, in plain queries: a short text, one pool, eight demonstrations."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udr.retrieval.planning.plan import Plan

DEEPEST = 16_384
"""How many hits are searched before a choice settles for fewer than k. It bounds the cost of a request, such as one for
demonstrations unlike all of a large pool."""

# A plain query takes about 6 ms of one core: 5 to encode 30 characters with MiniLM-L6 in ONNX Runtime, 1 to search. Of
# each of these, about as many take as long; measured over 50,000 rows in one pool, and over 100 pools, 384 dimensions.
# As long a text as encoders read takes 5 to 9 times as long as a short one. Counted as 5, so that a batch of 64 fits.
_CHARACTERS, _READ = 512, 2_048
_PASS = 1  # a field that a label head reads apart, to encode
_PARTITIONS = 32
_ROWS_BY_LABEL = 16_384
_FILTERED = 1  # the rows that pass compared one by one, after a search that found too few of them
_LOOKUPS = 10_000  # of excluded ids, in each partition
_HITS, _HITS_WITH_VECTORS = 512, 256
_SHOWN, _SHOWN_BYTES = 256, 32_768  # demonstrations and decisions in the answer, and the bytes of the former
_PAIRS, _PAIRS_IN_TURN = 131_072, 32_768  # of vectors or words; in turn, if one is chosen after the other


def text_cost(text: str) -> float:
    """Return what a text costs to encode beyond the one of a plain query, in plain queries."""
    return min(len(text), _READ) / _CHARACTERS


def cost(plan: "Plan") -> int:
    """Return about how many plain queries a plan costs to encode, search and select, at least 1.

    A plain query compares with as many rows as its pools have, so that is no part of it.
    How deep a search goes shows only when it is done. Where an option may make it deeper, this counts the geometric
    mean of the fewest hits and the most, so the true cost may be some ten times as high or as low.
    """
    request, num_partitions = plan.request, len(plan.copy_keys)
    modes = 2 if request.mode == "hybrid" else 1
    deepens = request.distinct is not None or request.max_copy is not None or request.max_similarity is not None
    # With a label head, those below the lower bound are not the last ones.
    deepens |= plan.label_head and request.min_similarity is not None
    most = max(plan.candidates, min(plan.size, DEEPEST))
    hits = math.sqrt(plan.candidates * most) if deepens else plan.candidates
    compares = request.diversity or request.distinct is not None or request.max_copy is not None
    texts = [text for text in (plan.text if plan.encoded else None, plan.copy_text) if text is not None]
    total = sum(map(text_cost, [*texts, *plan.field_texts])) + _PASS * len(plan.field_texts)
    total += modes * (num_partitions / _PARTITIONS + hits / _HITS)
    if plan.filtered:
        total += modes * _FILTERED
    total += num_partitions * len(request.exclude) / _LOOKUPS
    total += (plan.num_chosen + (plan.candidates if request.explain else 0)) / _SHOWN
    total += plan.num_chosen * plan.row_bytes / _SHOWN_BYTES
    if compares:
        total += hits / _HITS_WITH_VECTORS
    if request.distinct is not None:
        total += hits * min(hits, plan.num_chosen) / _PAIRS
    if request.balance:
        total += plan.size / _ROWS_BY_LABEL
    if request.coverage:
        # The words of the hits are read beside the search.
        total += num_partitions / _PARTITIONS + hits / _HITS
    for weight in (request.diversity, request.coverage):
        if weight:
            total += plan.num_chosen * (hits if request.balance else plan.candidates) / _PAIRS_IN_TURN
    return 1 + int(total)
