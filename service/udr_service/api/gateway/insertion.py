"""The text of a chat request with demonstrations in it; every other byte is as the client wrote it."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from udr.models import Message

SYSTEM = ("system", "developer")
"""The roles of messages that instruct the model."""

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


class Edit(NamedTuple):
    """A text in place of the characters from ``start`` to ``end``."""

    start: int
    end: int
    text: str


class _Part(NamedTuple):
    """A member of an object, by its name, or an item of an array: where it and its value start, and where it ends."""

    name: str
    start: int
    value: int
    end: int


class ChatText:
    """The text of a chat request, which is a JSON object without duplicate keys.

    It is read once more, for the places of what is changed: written again as a whole, its numbers and escapes would not
    be those that the client wrote.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._members = {part.name: part for part in _parts(text, _next(text, 0))}

    def without(self, name: str) -> list[Edit]:
        """Return the edit that removes a member; none if there is none."""
        if name not in self._members:
            return []
        members = list(self._members.values())
        position = list(self._members).index(name)
        start, end = members[position].start, members[position].end
        if position + 1 < len(members):
            end = members[position + 1].start
        elif position:
            start = members[position - 1].end
        return [Edit(start, end, "")]

    def replaced(self, name: str, value: str) -> Edit:
        """Return the edit that gives a member another text as its value."""
        member = self._members[name]
        return Edit(member.value, member.end, json.dumps(value))

    def with_turns(self, before: int, turns: Sequence[Message]) -> Edit:
        """Return the edit that puts messages before the one at a position."""
        place = self._messages()[before].start
        return Edit(place, place, "".join(f"{_dumped(turn)}, " for turn in turns))

    def with_instruction(self, roles: Sequence[object], text: str) -> Edit:
        """Return the edit that puts a text at the end of the first message, or before it if it does not instruct."""
        messages = self._messages()
        if roles[0] not in SYSTEM:
            place = messages[0].start
            return Edit(place, place, f"{_dumped(Message(role='system', content=text))}, ")
        content = {part.name: part for part in _parts(self._text, messages[0].value)}.get("content")
        kind = "" if content is None else self._text[content.value]
        if content is None or kind not in '["':
            # What the upstream makes of such a message, it says itself.
            return Edit(messages[0].end, messages[0].end, f", {_dumped(Message(role='system', content=text))}")
        added = _dumped(f"\n\n{text}")[1:-1]
        if kind == "[":
            added = _dumped({"type": "text", "text": text})
            added = f", {added}" if _parts(self._text, content.value) else added
        return Edit(content.end - 1, content.end - 1, added)

    def edited(self, edits: Iterable[Edit]) -> str:
        """Return the text with some parts replaced, which do not overlap."""
        pieces, place = [], 0
        for edit in sorted(edits):
            pieces += [self._text[place : edit.start], edit.text]
            place = edit.end
        return "".join([*pieces, self._text[place:]])

    def _messages(self) -> list[_Part]:
        return _parts(self._text, self._members["messages"].value)


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parts(text: str, start: int) -> list[_Part]:
    """Return the parts of the object or array that begins at ``start``, which is valid JSON."""
    named = text[start] == "{"
    parts: list[_Part] = []
    place = _next(text, start + 1)
    while text[place] not in "]}":
        begin, name = place, ""
        if named:
            name, place = _DECODER.raw_decode(text, place)
            # Past the colon.
            place = _next(text, _next(text, place) + 1)
        _, end = _DECODER.raw_decode(text, place)
        parts.append(_Part(name, begin, place, end))
        place = _next(text, end)
        if text[place] == ",":
            place = _next(text, place + 1)
    return parts


def _next(text: str, place: int) -> int:
    """Return the place of the next character that is no space."""
    match = _SPACE.match(text, place)
    assert match is not None, "it matches an empty text"
    return match.end()
