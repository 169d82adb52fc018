"""Copies: which inputs count as equal, and the keys by which an index finds them."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from itertools import compress

from udr.data.formatting import field_texts
from udr.data.task import Task
from udr.search import folded
from udr.types import Fields, Row

_DROPPED = "ZCP"
"""Spaces, controls and punctuation, by the first letter of their general category."""

_DROPPED_ASCII = dict.fromkeys(code for code in range(128) if unicodedata.category(chr(code))[0] in _DROPPED)
_BLOCK = 16_384
_IS_KEPT = bytes(chr(letter) not in _DROPPED for letter in range(256))

_QUOTES_AND_DASHES = {
    code: "-" if kind == "Pd" else None
    for code in range(0x3100)
    if (kind := unicodedata.category(chr(code))) in ("Pd", "Pi", "Pf") or chr(code) in "\"'"
}

# Of what Unicode calls punctuation, these marks can be operators; U+066B is the Arabic decimal separator.
_MARK, _SIGN = r"[-!#%&()*,./:;?@\[\\\]_{}\u066b]", r"[-*/%&@#\\:()\[\]{}]"
# A digit or a symbol, and a letter that stands alone, as variables do.
_NUMBER, _LETTER = r"[\d+<=>^|~$\u00d7\u00f7\u2212\u2260-\u2265]", r"(?<![^\W\d_])[^\W\d_](?![^\W\d_])"
_OPERATORS = re.compile(
    # Between numbers: 1.5, 3:4, 7 / 5, (3 + 4) * 5.
    rf"(?:(?<={_NUMBER})|(?<={_NUMBER} )){_MARK}(?: ?{_MARK})*(?= ?{_NUMBER})"
    # Between numbers or variables: x - 7, a/b, f(x).
    rf"|(?:(?<={_NUMBER})|(?<={_NUMBER} )|(?<={_LETTER})|(?<={_LETTER} )){_SIGN}(?: ?{_SIGN})*"
    rf"(?= ?(?:{_NUMBER}|{_LETTER}))"
    # Before one of these, but not within a word as in covid-19: -5, .5, -x, -(3 + 4).
    rf"|(?<![^\s(\[])(?:[-.](?=\(*\d)|-(?=\(*{_LETTER}))"
    # Between words: price / count, his/her.
    r"|(?<=\w)[*/&@\\](?=\w)|(?<=\w )[*/&@\\](?= \w)"
    # After a word: C#, 50%, 50 %.
    r"|(?<=\w)[#%]|(?<=\d )%"
    # Emoticons: :) :-( =/
    r"|[:;=]-?[()\[\]/\\|*]+(?=[\s.,!?]|$)"
)
_FIRST = re.compile(rf"=|{_MARK}")

# Exponents, and a fraction after a whole number: folded without a mark, 5² is 52, and 1½ is 11/2.
_RAISED = re.compile(r"([\u00b9\u00b2\u00b3\u2070\u2074-\u207b]+|(?<=\d)\s*[\u00bc-\u00be\u2150-\u215f\u2189])")
_RAISE = "\uff3e"
"""Their mark: a wide ^, which no folded text has, so that texts that are then equal have one copy key without it."""


def copy_key(task: Task, input: Fields, choices: Sequence[str] = ()) -> bytes:
    """Return the key by which an index finds an input's copies, 16 bytes: all have it, but so may others.

    It knows only letters, marks, digits and symbols; ``input_copy_text`` tells copies from the others.
    """
    texts = field_texts(input, task.fields, choices)
    return text_key("\n".join(kept_characters(text) or text.strip() for text in texts))


def text_key(text: str) -> bytes:
    """Return a 16-byte hash of a text."""
    return encoded_key(text.encode())


def encoded_key(text: bytes) -> bytes:
    """Return the ``text_key`` of a text in UTF-8."""
    return hashlib.sha256(text).digest()[:16]


def normalised(text: str) -> str:
    """Return a text without case, spaces, quotes and punctuation; operators and emoticons stay.

    Letters, marks, digits and symbols (emoji, ``+``) stay, and of what Unicode calls punctuation the marks that change
    what an input asks: ``7 - 5``, ``7 / 5``, ``1.5``, ``-5``, ``a/b``, ``C#``, ``:)``. Exponents differ from digits.
    Texts that are then equal are copies.
    """
    kept, end = list[str](), 0
    parts = enumerate(_RAISED.split(text))
    whole = folded(text) if text.isascii() else "".join(_RAISE * (number % 2) + folded(part) for number, part in parts)
    spaced = " ".join(whole.translate(_QUOTES_AND_DASHES).split())
    for mark in _FIRST.finditer(spaced):
        # Where none begins, looking for one would take most of the time.
        if mark.start() >= end and (operators := _OPERATORS.match(spaced, mark.start())):
            kept += _without_punctuation(spaced[end : mark.start()]), operators[0].replace(" ", "")
            end = operators.end()
    kept.append(_without_punctuation(spaced[end:]))
    return "".join(kept) if any(kept[::2]) else text.strip()


def kept_characters(text: str) -> str:
    """Return the letters, marks, digits and symbols of a text, without case."""
    return _without_punctuation(folded(text))


def _without_punctuation(whole: str) -> str:
    if whole.isascii():
        return whole.translate(_DROPPED_ASCII)
    # In blocks, since each call into C holds the interpreter.
    return "".join(_kept(whole[start : start + _BLOCK]) for start in range(0, len(whole), _BLOCK))


def _kept(text: str) -> str:
    # Each character's general category has two letters, of which the first is enough.
    kinds = "".join(map(unicodedata.category, text)).encode()[::2]
    return "".join(compress(text, kinds.translate(_IS_KEPT)))


def input_copy_text(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the values of an input's fields, each ``normalised``; copies have the same."""
    return "\n".join(map(normalised, field_texts(input, task.fields, choices)))


def copy_text(task: Task, row: Row) -> str:
    """Return ``input_copy_text`` of a row."""
    return input_copy_text(task, row.input, row.choices)
