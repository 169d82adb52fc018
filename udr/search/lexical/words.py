"""Words: how BM25 splits a text, by a rule whose name the index keeps, so that an older index answers by its own."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import chain, pairwise

# Scripts without spaces between words. Their ranges hold the marks and vowel signs, too.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1000-\u109f"  # Myanmar
    "\u1780-\u17dd"  # Khmer
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff"  # Japanese kana, iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)


_LONGEST_RUN = 30
"""How many marks in a row are normalised together, as in the stream-safe text format of UAX #15."""

_LONG_RUN = re.compile(rb"[^\0]{%d,}" % (_LONGEST_RUN + 1))

# Their combining class is 0, but they decompose into marks whose class is not.
_HIDDEN_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"


def folded(text: str) -> str:
    """Return a text in one of the ways that it can be written: compatible forms composed, without case.

    The time is linear in the text's length: runs of more than 30 marks are composed 30 at a time.
    """
    if text.isascii():
        return text.lower()
    return "".join(map(partial(unicodedata.normalize, "NFKC"), _between_marks(text))).casefold()


def _between_marks(text: str) -> Iterator[str]:
    """Yield a text in pieces without a long run of marks, which take quadratic time to normalise."""
    marked, start = text, 0
    for mark in _HIDDEN_MARKS:
        marked = marked.replace(mark, "\u0301")
    for run in _LONG_RUN.finditer(bytes(map(unicodedata.combining, marked))):
        for stop in range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN):
            yield text[start:stop]
            start = stop
    yield text[start:]


def spaced(text: str) -> str:
    """Return a text with spaces around each character of scripts that put none between words, such as Chinese."""
    return text if text.isascii() else re.sub(f"[{_UNSPACED}]", r" \g<0> ", text)


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
    # Python's \w lacks marks, without which words of Hindi or of decomposed text fall apart. Other planes have none.
    characters = "".join(map(chr, chain(range(0x20000), range(0xE0000, 0xE0200))))
    kinds = "".join(map(unicodedata.category, characters))[::2]
    runs = re.finditer("M+", kinds)
    marks = "".join(f"{characters[run.start()]}-{characters[run.end() - 1]}" for run in runs)
    return re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[\\w{marks}])+")


LOWER, RULE = "lower", "nfkc-bigrams"
"""The rule of indexes that name none, and the rule of new ones."""

RULES: Mapping[str, Callable[[str], list[str]]] = {LOWER: _lower, RULE: _bigrams}
"""How a text is split, by the rule's name."""
