"""Which demonstrations fit a token budget: decided by the tokens of the assembled prompt, at little cost.

Counting a long prompt anew for each demonstration would cost many times what the prompt is worth. So each demonstration
is counted once, or not at all where the index has its count, and so is each seam between two parts; whole prompts are
counted only where a token or two decide. The finished prompt is counted once: if the sum is not that count, to the
token, then the tokenizer looks farther than an edge, and whole prompts are counted from the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from udr.data import formatting
from udr.models import TokenCounter
from udr.prompts.ordering import Arrange
from udr.prompts.token_counts import Memo, TokenCounts

# Tokens by which a demonstration may miss the limit and still be counted on the whole prompt: a count that
# rounds, as one of characters by four does, adds up to within one or two.
_DOUBT = 2


@dataclass(frozen=True, slots=True)
class Block:
    """What a demonstration adds to a prompt.

    Attributes:
        parts: its text, or what the user says and what the assistant answers.
        gap: what stands between two parts in the demonstration's text.
        tokens: of that text alone, without those that are added around a text; None where they are to be counted.
    """

    parts: tuple[str, ...]
    gap: str = ""
    tokens: int | None = None


def last_first(taken: Sequence[int]) -> Sequence[int]:
    """Arrange positions so that the first stands last."""
    return sorted(taken, reverse=True)


class PromptLayout:
    """A prompt whose demonstrations are yet to be chosen: instruction, demonstrations and query, joined by blank lines.

    Attributes:
        instruction: stands at the top.
        blocks: the demonstrations that may be shown, in the order in which they are to be taken.
        query: stands last.
        arranged: brings those that are taken into the order in which they are shown.
    """

    def __init__(
        self,
        counter: TokenCounter,
        instruction: str,
        blocks: Sequence[Block],
        query: str,
        arranged: Arrange = last_first,
        frame_tokens: int = 0,
        block_tokens: int = 0,
    ) -> None:
        """Prepare a draft.

        Args:
            counter: counts the tokens.
            instruction: stands at the top.
            blocks: the demonstrations that may be shown, the one to be taken first at the front.
            query: stands last.
            arranged: from the positions that are taken to the order in which they are shown.
            frame_tokens: what the prompt costs on top of the tokens that are counted.
            block_tokens: what each demonstration does.
        """
        self.instruction, self.blocks, self.query, self.arranged = instruction, blocks, query, arranged
        self._counter, self._frame_tokens, self._block_tokens = counter, frame_tokens, block_tokens
        self._weights = Memo[int, int](lambda position: self.weight(self.blocks[position]))
        self._joins = Memo[tuple[int | None, int | None], int](lambda pair: self.join(*pair))

    @cached_property
    def bare(self) -> int:
        """Tokens of the prompt without any demonstration."""
        return self.count(())

    def joined(self, shown: Sequence[int]) -> str:
        """Return the prompt as one text that shows the demonstrations at these positions, in this order."""
        return formatting.prompt(self.instruction, [part for n in shown for part in self.blocks[n].parts], self.query)

    def count(self, shown: Sequence[int]) -> int:
        """Return the tokens of the prompt that shows these positions in this order, counted on the whole."""
        return self._counter.count(self.joined(shown)) + self._frame_tokens + len(shown) * self._block_tokens

    def estimate(self, shown: Sequence[int]) -> int:
        """Return the same as a sum over what stands there and the seams between, each counted once."""
        chain = (None, *shown, None)
        seams = sum(map(self._joins.__getitem__, pairwise(chain)))
        return self.bare + sum(map(self._weights.__getitem__, shown)) + seams - self._joins[None, None]

    @cached_property
    def _seams(self) -> TokenCounts:
        return TokenCounts(self._counter)

    def join(self, before: int | None, after: int | None) -> int:
        """Return what the seam of two neighbours adds; None stands for the instruction, and for the query."""
        first = self.instruction if before is None else self.blocks[before].parts[-1]
        then = self.query if after is None else self.blocks[after].parts[0]
        return self._seams.join(first, then)

    def weight(self, block: Block) -> int:
        """Return the tokens of a demonstration as the prompt shows it, without the seams around it."""
        within = sum(self._seams.join(first, then) for first, then in pairwise(block.parts))
        return self.contents(block) + within + self._block_tokens

    def contents(self, block: Block) -> int:
        """Return the tokens of its parts, each alone."""
        if block.tokens is None:
            return sum(map(self._seams.alone, block.parts))
        within = sum(self._seams.join(first, then, block.gap) for first, then in pairwise(block.parts))
        return block.tokens - within


def fit(draft: PromptLayout, limit: int) -> Mapping[int, int]:
    """Return the positions that fit, in the order taken, and the tokens that each adds.

    From the first on, a position is taken when the prompt with it and those taken before it fits, all of them arranged;
    one that does not is passed over for the next. The tokens and the draft's ``bare`` add up to those of the prompt, to
    the token.

    Args:
        draft: what may be taken; without any, it fits.
        limit: tokens that the prompt may have; exactly so many fit.
    """
    taken = _greedy(draft, draft.estimate, limit, _DOUBT)
    if taken is None or draft.bare + sum(taken.values()) != draft.count(draft.arranged(tuple(taken))):
        taken = _greedy(draft, draft.count, limit, 0)
    assert taken is not None, "what is counted is beyond doubt"
    return taken


def _greedy(
    draft: PromptLayout, total: Callable[[Sequence[int]], int], limit: int, doubt: int
) -> dict[int, int] | None:
    """Return what fits by these totals; None where one is in doubt, and a count shows it to be wrong."""
    taken: dict[int, int] = {}
    before = draft.bare
    for position in range(len(draft.blocks)):
        shown = draft.arranged((*taken, position))
        tokens = total(shown)
        if limit < tokens <= limit + doubt and draft.count(shown) != tokens:
            return None
        if tokens <= limit:
            taken[position] = tokens - before
            before = tokens
    return taken
