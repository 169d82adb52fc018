"""Near-duplicates without a model: pairs of texts that share most of their words, and of the pairs that these make.

Exact, and yet far from comparing all pairs: two sets of words that overlap enough share one of the rarest words of each
(the prefix filter of Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning", ICDE
2006), so only texts that share such a word are compared. Thousands of texts of one template do. But two sets that
overlap enough also share the next word of a longer prefix (Wang, Li and Feng, "Can We Beat the Prefix Filtering?",
SIGMOD 2012), so of these texts, only those that share that one, too, are compared. And of texts that are joined
already, only one has to be near to another text.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from udr.search.lexical.words import RULE, RULES

OVERLAP = 0.7
"""The default share of common words and neighbours of near-duplicates: of twenty words, two may differ."""

# A node with more groups of texts than these gets a node below it for each next common word.
_CROWD = 32

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
    groups = list(range(len(texts)))
    tree = _Node()
    # With the smallest first, what is in the tree is never the larger one, so it shares more of its own words.
    order = sorted(range(len(texts)), key=lambda position: len(sets[position])) if chained else range(len(texts))
    least_stored = 2 * least / (1 + least) if chained else least

    def group(position: int) -> int:
        while groups[position] != position:
            # Halving the path keeps all paths short.
            groups[position] = position = groups[groups[position]]
        return position

    for position in order:
        words = sets[position]
        if words in first:
            yield first[words], position
        if not words or words in first:
            continue
        rarest = sorted(words, key=lambda word: (frequency[word], word))
        own, apart = position, set[int]()
        for members in tree.find(rarest, _needed(least * len(words))):
            for number, others in members.items():
                if (joined := group(number)) == own:
                    continue
                for other in others:
                    if other.text not in apart and _near(words, sets[other.text], least):
                        yield min(other.text, position), max(other.text, position)
                        groups[own] = own = joined
                        break
                    apart.add(other.text)
        if chained or own == position:
            first[words] = position
            tree.store(_Entry(position, own, rarest, _needed(least_stored * len(words))))


class _Entry(NamedTuple):
    """A text in a node.

    It has its group when it came, its words from the rarest on, how many of them another shares at least, and the place
    after the last one that leads here.
    """

    text: int
    group: int
    words: list[str]
    needed: int
    start: int = 0


class _Node:
    """The texts that have some words in common, by group; or, if these are many, nodes for each next common word.

    With ``depth`` words in common, the next one leaves enough words after it for what two texts share at least.
    """

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.members: dict[int, list[_Entry]] = {}
        self.children: dict[str, _Node] | None = None if depth else {}

    def store(self, entry: _Entry) -> None:
        if self.children is None or self.depth >= entry.needed:
            self.members.setdefault(entry.group, []).append(entry)
            if self.children is None and len(self.members) > _CROWD:
                entries = [entry for others in self.members.values() for entry in others]
                self.children, self.members = {}, {}
                for entry in entries:
                    self.store(entry)
            return
        for place in range(entry.start, len(entry.words) - entry.needed + self.depth + 1):
            child = self.children.get(word := entry.words[place])
            if child is None:
                child = self.children[word] = _Node(self.depth + 1)
            child.store(entry._replace(start=place + 1))

    def find(self, words: Sequence[str], needed: int, start: int = 0) -> Iterator[dict[int, list[_Entry]]]:
        """Yield the texts that may share as many of some words as are needed, by group."""
        if self.members:
            yield self.members
        if self.children:
            for place in range(start, min(len(words), len(words) - needed + self.depth + 1)):
                if child := self.children.get(words[place]):
                    yield from child.find(words, needed, place + 1)


def _needed(share: float) -> int:
    return math.ceil(share - _SLACK)


def _near(words: frozenset[str], others: frozenset[str], least: float) -> bool:
    needed = least * (len(words) + len(others)) / (1 + least) - _SLACK
    # Sizes that differ too much rule it out without a look at the words.
    return len(words) >= needed and len(others) >= needed and len(words & others) >= needed


def _words_and_neighbours(text: str) -> frozenset[str]:
    words = RULES[RULE](text)
    return frozenset(words) | frozenset(map(" ".join, pairwise(words)))
