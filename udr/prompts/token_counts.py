"""The arithmetic of tokens: what texts are alone, and what joining them adds or saves.

Tokens do not add up: where two texts are joined, a newline may merge with what stands before it. But what happens there
is up to the edges of the two, so it is counted on these alone, and once for equal edges.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from udr.data import formatting
from udr.models import TokenCounter

# Of a text's edge its first or last word is looked at, with what spaces are around it, and no more characters than
# these: no common tokenizer lets a text farther away have a say. A short edge is one that many demonstrations share.
_EDGE = 32
_FIRST, _LAST = re.compile(r"\s*\S*"), re.compile(r"\S*\s*\Z")


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Memo(dict[_Key, _Value]):
    """Values that are worked out when they are first asked for, and then kept."""

    def __init__(self, work: Callable[[_Key], _Value]) -> None:
        super().__init__()
        self._work = work

    def __missing__(self, key: _Key) -> _Value:
        value = self[key] = self._work(key)
        return value


class TokenCounts:
    """Counts texts without those tokens that are added around a whole prompt; not for several threads.

    Attributes:
        counter: counts whole texts.
        edges: the tokens of short texts alone.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self.counter = counter
        self._around = counter.count("")
        self.edges = Memo(self.alone)

    def alone(self, part: str) -> int:
        """Return the tokens of a text alone."""
        return self.counter.count(part) - self._around

    def join(self, before: str, after: str, gap: str = formatting.SEPARATOR) -> int:
        """Return what two texts with a gap between them have more than the two alone; it may be negative."""
        last, first = _LAST.search(before[-_EDGE:]), _FIRST.match(after[:_EDGE])
        assert last is not None and first is not None, "both match an empty text"
        tail, head = last.group(), first.group()
        return self.edges[tail + gap + head] - self.edges[tail] - self.edges[head]


def outline(part: str, edge: int) -> str:
    """Return the first and the last characters of a text, put together; a short text itself."""
    return part if len(part) <= 2 * edge else part[:edge] + part[-edge:]
