"""Which demonstrations fit a token budget: decided by the tokens of the assembled prompt, at little cost.

Tokens do not add up: where two texts join, a newline may merge with the text before it. But the effect depends only on
the edges of the two texts, so each demonstration is counted once (or not at all if the index has its count), and so is
each pair of edges. Whole prompts are counted only if a token or two decide. The finished prompt is counted once; if the
sum differs from that count, the tokenizer looks beyond an edge, and whole prompts are counted from the start.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, starmap

from udr.data import formatting
from udr.models import TokenCounter
from udr.prompts.ordering import Arrange

# If the sum exceeds the limit by at most this many tokens, the whole prompt is counted: sums of a counter that rounds,
# such as characters divided by four, are off by one or two.
_DOUBT = 2

# An edge is a text's first or last word with the spaces around it, up to this many characters: no common tokenizer
# looks farther. Many demonstrations share a short edge.
_EDGE = 32
_FIRST, _LAST = re.compile(r"\s*\S*"), re.compile(r"\S*\s*\Z")

TRUNCATION_MARK = " […]"
"""Replaces the end of a truncated text."""


class TokenCounts:
    """Counts texts without the tokens that surround a whole prompt; not thread-safe.

    Attributes:
        edge: the tokens of a short text alone, cached.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._around = counter.count("")
        self.edge = cache(self.alone)

    def alone(self, part: str) -> int:
        """Return the tokens of a text alone."""
        return self._counter.count(part) - self._around

    def join(self, before: str, after: str, gap: str = formatting.SEPARATOR) -> int:
        """Return how many more tokens two texts have with a gap between them than alone; may be negative."""
        last, first = _LAST.search(before[-_EDGE:]), _FIRST.match(after[:_EDGE])
        assert last is not None and first is not None, "both match an empty text"
        tail, head = last.group(), first.group()
        return self.edge(tail + gap + head) - self.edge(tail) - self.edge(head)


@dataclass(frozen=True, slots=True)
class Block:
    """What a demonstration adds to a prompt.

    Attributes:
        parts: its text, or the user's turn and the assistant's.
        gap: the text between two parts in the demonstration's text.
        tokens: the tokens of its text alone, without surrounding tokens; None if they must be counted.
    """

    parts: tuple[str, ...]
    gap: str = ""
    tokens: int | None = None


@dataclass(eq=False)
class PromptLayout:
    """Instruction, demonstrations to choose from and query, joined by blank lines.

    Attributes:
        counter: counts tokens.
        instruction: the top of the prompt.
        blocks: the demonstrations that the prompt may show, in the order of choice.
        query: the end of the prompt.
        arranged: brings the chosen positions into the order in which the prompt shows them.
        frame_tokens: tokens of the prompt beside those that are counted.
        block_tokens: tokens of each demonstration beside those that are counted.
    """

    counter: TokenCounter
    instruction: str
    blocks: Sequence[Block]
    query: str
    arranged: Arrange
    frame_tokens: int = 0
    block_tokens: int = 0

    def __post_init__(self) -> None:
        self._weight = cache(lambda position: self.weight(self.blocks[position]))
        self._join = cache(self.join)

    @cached_property
    def bare(self) -> int:
        """Tokens of the prompt without demonstrations."""
        return self.count(())

    @cached_property
    def token_counts(self) -> TokenCounts:
        """The token counts of parts and their edges."""
        return TokenCounts(self.counter)

    def joined(self, shown: Sequence[int]) -> str:
        """Return the prompt that shows these positions, in this order, as one text."""
        return formatting.prompt(self.instruction, [part for n in shown for part in self.blocks[n].parts], self.query)

    def count(self, shown: Sequence[int]) -> int:
        """Return the tokens of the whole prompt that shows these positions, in this order."""
        return self.counter.count(self.joined(shown)) + self.frame_tokens + len(shown) * self.block_tokens

    def estimate(self, shown: Sequence[int]) -> int:
        """Return the same as ``count``, as a sum over the demonstrations and the joins between them."""
        joins = sum(starmap(self._join, pairwise((None, *shown, None))))
        return self.bare + sum(map(self._weight, shown)) + joins - self._join(None, None)

    def each(self, shown: Sequence[int]) -> dict[int, int]:
        """Return the tokens that each of these positions, at least one, adds to the prompt that shows them all."""
        before = zip((None, *shown[:-1]), shown, strict=True)
        tokens = {position: self._weight(position) + self._join(other, position) for other, position in before}
        tokens[shown[-1]] += self._join(shown[-1], None) - self._join(None, None)
        return tokens

    def join(self, before: int | None, after: int | None) -> int:
        """Return the tokens that joining two neighbours adds; None is the instruction before, the query after."""
        first = self.instruction if before is None else self.blocks[before].parts[-1]
        second = self.query if after is None else self.blocks[after].parts[0]
        return self.token_counts.join(first, second)

    def weight(self, block: Block) -> int:
        """Return the tokens of a demonstration as the prompt shows it, without the joins around it."""
        joins = sum(self.token_counts.join(first, second) for first, second in pairwise(block.parts))
        return self.contents(block) + joins + self.block_tokens

    def contents(self, block: Block) -> int:
        """Return the tokens of a demonstration's parts, each alone."""
        if block.tokens is None:
            return sum(map(self.token_counts.alone, block.parts))
        return block.tokens - sum(self.token_counts.join(*pair, block.gap) for pair in pairwise(block.parts))


def fit(layout: PromptLayout, limit: int) -> Mapping[int, int]:
    """Return the positions that fit, in the order of choice, and the tokens that each adds.

    A position is taken if the prompt with it and those taken before it fits, all arranged; else it is skipped. The
    tokens and the layout's ``bare``, which must fit, add up to those of the prompt, to the token.
    """
    taken = _whole(layout, limit)
    if taken is None:
        taken = _greedy(layout, layout.estimate, limit, _DOUBT)
    if taken is None or layout.bare + sum(taken.values()) != layout.count(layout.arranged(tuple(taken))):
        taken = _greedy(layout, layout.count, limit, 0)
    assert taken is not None, "a count of the whole prompt is never in doubt"
    return taken


def _whole(layout: PromptLayout, limit: int) -> dict[int, int] | None:
    """Return the tokens that each demonstration adds if all fit, which needs one arrangement; None if they do not."""
    shown = layout.arranged(range(len(layout.blocks)))
    if not shown or layout.estimate(shown) > limit:
        return None
    tokens = layout.each(shown)
    if min(tokens.values()) < 0:
        # One shortens the prompt, so that fewer may not fit.
        return None
    return {position: tokens[position] for position in range(len(shown))}


def _greedy(
    layout: PromptLayout, total: Callable[[Sequence[int]], int], limit: int, doubt: int
) -> dict[int, int] | None:
    """Return what fits by these totals; None if one within ``doubt`` of the limit is wrong."""
    taken: dict[int, int] = {}
    before = layout.bare
    for position in range(len(layout.blocks)):
        shown = layout.arranged((*taken, position))
        tokens = total(shown)
        if limit < tokens <= limit + doubt and layout.count(shown) != tokens:
            return None
        if tokens <= limit:
            taken[position] = tokens - before
            before = tokens
    return taken


def truncate(value: str, fits: Callable[[str], bool]) -> tuple[str, int] | None:
    """Return the longest beginning of a text that fits, with a mark, and how many characters of the text it keeps.

    Spaces before the mark are dropped. None if not even the mark alone fits.

    Args:
        value: the text.
        fits: whether the prompt fits with this text instead. A longer text should take no fewer tokens; if a tokenizer
            makes exceptions, the result still fits but may not be the longest that does.
    """

    def cut(length: int) -> str:
        return value[:length].rstrip() + TRUNCATION_MARK

    if not fits(cut(0)):
        return None
    low, high = 0, len(value)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(cut(middle)) else (low, middle)
    return cut(low), len(value[:low].rstrip())
