"""Which demonstrations fit a token budget: decided by the tokens of the assembled prompt, at little cost.

Tokens do not add up: where two texts are joined, a newline may merge with what stands before it. But counting
a long prompt anew for each demonstration would cost many times what the prompt is worth. So what a
demonstration adds is counted between the edges of its neighbours, and on the whole prompt only where a token or
two decide. The finished prompt is counted once: if the sum is not that count, to the token, then the tokenizer
looks farther than an edge, and whole prompts are counted from the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from udr import text
from udr.tokenizer import TokenCounter

# Characters of a neighbour that are looked at. No common tokenizer lets a text farther away than a word or a
# run of newlines have a say.
_EDGE = 32
# Tokens by which a demonstration may miss the limit and still be counted on the whole prompt: a count that
# rounds, as one of characters by four does, adds up to within one or two.
_DOUBT = 2

Added = Callable[[int, Sequence[int]], int]
"""From a position, and those taken before it, to the tokens that it adds."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt whose demonstrations are yet to be chosen.

    Attributes:
        tokenizer: counts the tokens.
        instruction: stands at the top.
        proposed: the parts of each demonstration that may be shown, nearest first.
        query: stands last.
    """

    tokenizer: TokenCounter
    instruction: str
    proposed: Sequence[Sequence[str]]
    query: str

    def joined(self, taken: Sequence[int]) -> str:
        """Return the prompt with the demonstrations at these positions; the first taken stands last."""
        parts = [part for position in reversed(taken) for part in self.proposed[position]]
        return text.prompt(self.instruction, parts, self.query)

    def count(self, taken: Sequence[int]) -> int:
        """Return the tokens of that prompt."""
        return self.tokenizer.count(self.joined(taken))

    def added(self, position: int, taken: Sequence[int]) -> int:
        """Return the tokens that one more adds, counted between the edges of its neighbours."""
        before = self.instruction[-_EDGE:]
        after = (self.proposed[taken[-1]][0] if taken else self.query)[:_EDGE]
        within = text.SEPARATOR.join((before, *self.proposed[position], after))
        return self.tokenizer.count(within) - self.tokenizer.count(text.SEPARATOR.join((before, after)))

    def added_to_all(self, position: int, taken: Sequence[int]) -> int:
        """Return the tokens that one more adds, counted on the whole prompt."""
        return self.count((*taken, position)) - self.count(taken)


def fit(draft: Draft, bare: int, limit: int) -> Mapping[int, int]:
    """Return the positions that fit, in their order, and the tokens that each adds.

    From the first on, a position is taken when the prompt with it and those taken before it fits; one that
    does not is passed over for the next. The tokens and ``bare`` add up to those of the prompt, to the token.

    Args:
        draft: what may be taken.
        bare: tokens of the prompt when nothing is taken.
        limit: tokens that the prompt may have; exactly so many fit.
    """
    taken = _greedy(draft, draft.added, limit - bare)
    if bare + sum(taken.values()) != draft.count(tuple(taken)):
        taken = _greedy(draft, draft.added_to_all, limit - bare)
    return taken


def _greedy(draft: Draft, added: Added, room: int) -> dict[int, int]:
    taken: dict[int, int] = {}
    for position in range(len(draft.proposed)):
        tokens = added(position, tuple(taken))
        if room < tokens <= room + _DOUBT:
            tokens = draft.added_to_all(position, tuple(taken))
        if tokens <= room:
            taken[position] = tokens
            room -= tokens
    return taken
