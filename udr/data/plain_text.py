"""Plain text over many tasks: which inputs of each it can mean, and the keys that find their copies.

A request over hundreds of tasks reads one text by hundreds of templates, so what these have in common is done once.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from udr.data.duplicates import encoded_key, kept_characters
from udr.data.task import Task, Template
from udr.types import Fields

_Span = tuple[int, int]
"""The start and the end of a field in the text."""

# Characters outside ASCII that equal an ASCII letter but for case.
_ALIKE = str.maketrans({"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"})

# Pieces begin with an ASCII character, so what is before does not change how they are normalised. A long run of other
# characters is a piece of its own.
_LONG = r"[\x00-\x7f][^\x00-\x7f]{256,}"
_PIECE = re.compile(rf"{_LONG}|(?:(?!{_LONG}).){{1,256}}[^\x00-\x7f]*", re.DOTALL)


class PlainText:
    """A plain text, read as the only field of a task or as a text that its template formats, case ignored."""

    def __init__(self, text: str) -> None:
        self._text, self._lower = text, text.translate(_ALIKE).lower()
        self._pieces = _PIECE.findall(text)
        self._starts = list(accumulate(map(len, self._pieces), initial=0))
        self._parts: dict[_Span, bytes] = {}
        self._keys: dict[tuple[_Span, ...], bytes] = {}

    def copy_keys(self, task: Task) -> frozenset[bytes]:
        """Return the ``copy_key`` of each input of a task that the text can mean."""
        return frozenset(map(self._key, self._readings(task)))

    def inputs(self, task: Task) -> list[Fields]:
        """Return each input of a task that the text can mean."""
        return [
            dict(zip(task.fields, (self._text[slice(*field)] for field in fields), strict=True))
            for fields in self._readings(task)
        ]

    def _readings(self, task: Task) -> Iterator[tuple[_Span, ...]]:
        """Yield the fields of each input that the text can mean."""
        if len(task.fields) == 1:
            yield ((0, len(self._text)),)
        literals = _literals(task.input)
        if literals and (fields := self._fields(literals)):
            yield fields

    def _fields(self, literals: tuple[str, ...]) -> tuple[_Span, ...] | None:
        """Return the fields between a template's literal texts, each up to the first match of the next; None if none.

        No other match is tried, since that takes polynomial time.
        """
        first, *inner, last = literals
        start, end = len(first), len(self._text) - len(last)
        if not (self._is_at(first, 0) and self._is_at(last, end)):
            return None
        fields: list[_Span] = []
        for literal in inner:
            stop = self._find(literal, start)
            if stop < 0:
                return None
            fields.append((start, stop))
            start = stop + len(literal)
        return (*fields, (start, end)) if start <= end else None

    def _is_at(self, literal: str, start: int) -> bool:
        if literal.isascii():
            return start >= 0 and self._lower.startswith(literal, start)
        return start >= 0 and _ignoring_case(literal).match(self._text, start) is not None

    def _find(self, literal: str, start: int) -> int:
        if literal.isascii():
            return self._lower.find(literal, start)
        match = _ignoring_case(literal).search(self._text, start)
        return -1 if match is None else match.start()

    def _key(self, fields: tuple[_Span, ...]) -> bytes:
        if fields not in self._keys:
            self._keys[fields] = encoded_key(b"\n".join(self._normalised(*field) for field in fields))
        return self._keys[fields]

    def _normalised(self, start: int, end: int) -> bytes:
        """Return what a copy key knows of a part of the text, in UTF-8."""
        first, last = bisect_left(self._starts, start), bisect_right(self._starts, end) - 1
        starts = [start, *self._starts[first : last + 1], end] if first <= last else [start, end]
        kept = b"".join(map(self._kept, starts, starts[1:]))
        return kept or self._text[start:end].strip().encode()

    def _kept(self, start: int, end: int) -> bytes:
        if (start, end) not in self._parts:
            self._parts[start, end] = kept_characters(self._text[start:end]).encode()
        return self._parts[start, end]


@cache
def _literals(template: Template) -> tuple[str, ...] | None:
    """Return the texts around a template's fields, lower-case if they are ASCII; None if a field occurs twice."""
    literals = template.render(dict.fromkeys(template.fields, "\0")).split("\0")
    if len(literals) != len(template.fields) + 1:
        return None
    return tuple(literal.lower() if literal.isascii() else literal for literal in literals)


@cache
def _ignoring_case(literal: str) -> re.Pattern[str]:
    return re.compile(re.escape(literal), re.IGNORECASE)
