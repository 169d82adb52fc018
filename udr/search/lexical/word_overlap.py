"""Near-duplicates without a model: pairs of texts that share most of their words, and of the pairs that these make.

Exact, and yet far from comparing all pairs: two sets of words that overlap enough share one of the rarest words of each
(the prefix filter of Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning", ICDE
2006), so only texts that share such a word are compared; and of texts that are joined already, only one has to be near
to another text.
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


def overlapping(texts: Sequence[str], least: float = OVERLAP, chained: bool = True) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions, the earlier one first, that join each text to those that share enough of its words.

    What they share are words and neighbours, two words in a row, so texts that say other things with the same words are
    no near-duplicates. Texts that a chain of pairs joins already are not joined again. Texts without words are in no
    pair.

    Args:
        texts: any texts; words are split as BM25 splits them, and count once, as neighbours do.
        least: the least number of what two texts share, as a share of what is in either (Jaccard).
        chained: join texts to those that are joined to others, too. If not, a text that is joined to an earlier one is
            compared with no later one, so that each is near to one that is joined to none before it.
    """
    sets = [_words_and_neighbours(text) for text in texts]
    frequency = Counter(word for words in set(sets) for word in words)
    first: dict[frozenset[str], int] = {}
    # The texts with a word by the group in which they were when they came.
    with_word: dict[str, dict[int, list[int]]] = {}
    groups = list(range(len(texts)))

    def group(position: int) -> int:
        while groups[position] != position:
            # Halving the path keeps all paths short.
            groups[position] = position = groups[groups[position]]
        return position

    for position, words in enumerate(sets):
        if words in first:
            yield first[words], position
        if not words or words in first:
            continue
        rarest = sorted(words, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(words) - math.ceil(least * len(words) - _SLACK) + 1]
        own, apart = position, set[int]()
        for word in prefix:
            for number, members in with_word.get(word, {}).items():
                if (joined := group(number)) == own:
                    continue
                for other in members:
                    if other not in apart and _near(words, sets[other], least):
                        yield other, position
                        groups[own] = own = joined
                        break
                    apart.add(other)
        if chained or own == position:
            first[words] = position
            for word in prefix:
                with_word.setdefault(word, {}).setdefault(own, []).append(position)


def _near(words: frozenset[str], others: frozenset[str], least: float) -> bool:
    needed = least * (len(words) + len(others)) / (1 + least) - _SLACK
    # Sizes that differ too much rule it out without a look at the words.
    return len(words) >= needed and len(others) >= needed and len(words & others) >= needed


def _words_and_neighbours(text: str) -> frozenset[str]:
    words = RULES[RULE](text)
    return frozenset(words) | frozenset(map(" ".join, pairwise(words)))
