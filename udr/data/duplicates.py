"""Copies: which inputs count as equal, and the keys that find them."""

import hashlib
import unicodedata
from collections.abc import Sequence
from itertools import compress

from udr.data.formatting import _field_texts
from udr.data.task import Task
from udr.search import folded
from udr.types import Fields, Row

_DROPPED = "ZCP"
"""Spaces, controls and punctuation, by the first letter of their general category."""

_DROPPED_ASCII = dict.fromkeys(code for code in range(128) if unicodedata.category(chr(code))[0] in _DROPPED)
_BLOCK = 16_384
_IS_KEPT = bytes(chr(letter) not in _DROPPED for letter in range(256))


def copy_key(task: Task, input: Fields, choices: Sequence[str] = ()) -> bytes:
    """Return the key that an input shares only with its copies: a 16-byte hash of ``input_copy_text``."""
    return text_key(input_copy_text(task, input, choices))


def text_key(text: str) -> bytes:
    """Return a 16-byte hash of a text."""
    return encoded_key(text.encode())


def encoded_key(text: bytes) -> bytes:
    """Return the ``text_key`` of a text in UTF-8."""
    return hashlib.sha256(text).digest()[:16]


def normalised(text: str) -> str:
    """Return a text without case, spaces and punctuation; letters, marks, digits and symbols (emoji, operators) stay.

    Texts that are then equal are copies.
    """
    return kept_characters(text) or text.strip()


def kept_characters(text: str) -> str:
    """Return ``normalised``, but nothing for a text without a letter, mark, digit or symbol."""
    whole = folded(text)
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
    return "\n".join(map(normalised, _field_texts(task, input, choices)))


def copy_text(task: Task, row: Row) -> str:
    """Return ``input_copy_text`` of a row."""
    return input_copy_text(task, row.input, row.choices)
