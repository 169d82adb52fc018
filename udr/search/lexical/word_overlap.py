"""Near-duplicates without a model: pairs of texts that share most of their words, and of the pairs that these make.

Exact, and yet far from comparing all pairs: two sets of words that overlap enough share one of the rarest words of each
(the prefix filter of Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning", ICDE
2006), so only texts that share such a word are compared.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from udr.search.lexical.words import RULE, RULES

OVERLAP = 0.7
"""The default share of common words and neighbours of near-duplicates: of twenty words, two may differ."""

# More than the errors of the products below.
_SLACK = 1e-9


def overlapping(texts: Sequence[str], least: float = OVERLAP) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions that join each text to every one that shares enough of its words and of its neighbours.

    Neighbours are two words in a row, so texts that say other things with the same words are no near-duplicates. Texts
    that are the same in both are joined to the first of them only. Texts without words are in no pair.

    Args:
        texts: any texts; words are split as BM25 splits them, and count once, as neighbours do.
        least: the least number of what two texts share, as a share of what is in either (Jaccard).
    """
    first: dict[frozenset[str], int] = {}
    for position, text in enumerate(texts):
        words = _words_and_neighbours(text)
        if words and first.setdefault(words, position) != position:
            yield first[words], position
    frequency = Counter(word for words in first for word in words)
    with_word: dict[str, list[frozenset[str]]] = {}
    # A shorter text is compared with the longer ones that come later.
    for words in sorted(first, key=len):
        rarest = sorted(words, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(words) - math.ceil(least * len(words) - _SLACK) + 1]
        near = {
            other
            for word in prefix
            for other in with_word.get(word, ())
            if len(other) >= least * len(words) - _SLACK
            if len(words & other) * (1 + least) >= least * (len(words) + len(other)) - _SLACK
        }
        positions = sorted(first[other] for other in near)
        yield from ((min(first[words], position), max(first[words], position)) for position in positions)
        for word in prefix:
            with_word.setdefault(word, []).append(words)


def _words_and_neighbours(text: str) -> frozenset[str]:
    words = RULES[RULE](text)
    return frozenset(words) | frozenset(map(" ".join, pairwise(words)))
