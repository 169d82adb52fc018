"""Words: how BM25 splits a text, by a rule whose name the index keeps, so that an older index answers by its own."""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise

# Scripts without spaces between words. Their ranges hold the marks and vowel signs, too.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1000-\u109f"  # Myanmar
    "\u1780-\u17dd"  # Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff"  # Japanese kana, iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


def folded(text: str) -> str:
    """Return a text in one of the ways that it can be written: compatible forms composed, without case."""
    return unicodedata.normalize("NFKC", text).casefold()


def _lower(text: str) -> list[str]:
    # One-letter words and digits count: labels, choices and code contain many.
    return re.findall(r"\w+", text.lower())


def _bigrams(text: str) -> list[str]:
    """Return the words of a text, with pairs of neighbours in scripts that have no spaces between words."""
    if text.isascii():
        return _lower(text)
    # The dot is left over from the Turkish capital i.
    words = []
    for match in _pattern().finditer(folded(text).replace("i\u0307", "i")):
        run = match[0]
        if match.lastgroup is None or len(run) == 1:
            words.append(run)
        else:
            words += map("".join, pairwise(run))
    return words


@cache
def _pattern() -> re.Pattern[str]:
    # Python's \w lacks marks, without which words of Hindi or of decomposed text fall apart.
    marks = _ranges(code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[\\w{marks}])+")


def _ranges(codes: Iterable[int]) -> str:
    """Return sorted code points as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


LOWER, RULE = "lower", "nfkc-bigrams"
"""The rule of indexes that name none, and the rule of new ones."""

RULES: Mapping[str, Callable[[str], list[str]]] = {LOWER: _lower, RULE: _bigrams}
"""How a text is split, by the rule's name."""
