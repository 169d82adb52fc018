"""Copies: which inputs count as the same, and the keys that find them without reading rows."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from udr.data.formatting import _field_texts
from udr.data.task import Task, Template
from udr.types import Fields, Row


def copy_key(task: Task, input: Fields, choices: Sequence[str] = ()) -> bytes:
    """Return what an input shares with its copies and with no other: a hash of what ``udr.text`` says that is."""
    return hashlib.sha256(input_copy_text(task, input, choices).encode()).digest()[:16]


def text_key(text: str) -> bytes:
    """Return what stands for the text that an encoder reads of a demonstration: a hash of it."""
    return hashlib.sha256(text.encode()).digest()[:16]


# A request over many tasks asks the same of its text for each of them.
@lru_cache(maxsize=16)
def normalised(text: str) -> str:
    """Return a text without case, spaces and punctuation; texts of which that is equal are copies of one another.

    Letters with their marks, digits and symbols stay, an emoji and a sign of relation among them.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character for character in folded if unicodedata.category(character)[0] not in "ZCP")
    return kept or text.strip()


def input_copy_text(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return what an input shares with its copies: the values of its fields, ``normalised`` one by one."""
    return "\n".join(map(normalised, _field_texts(task, input, choices)))


def copy_text(task: Task, row: Row) -> str:
    """Return what a row shares with its copies."""
    return input_copy_text(task, row.input, row.choices)


def plain_inputs(task: Task, text: str) -> list[Fields]:
    """Return the inputs of a task that a plain text may stand for: its only field, or what its template words so."""
    found: list[Fields] = [{task.fields[0]: text}] if len(task.fields) == 1 else []
    worded = _worded(task.input)
    match = worded.fullmatch(text) if worded is not None else None
    return [*found, dict(zip(task.fields, match.groups(), strict=True))] if match else found


@cache
def _worded(template: Template) -> re.Pattern[str] | None:
    """Return what the texts that a template words are like, a group a field; None where it names a field twice."""
    first, *parts = template.render(dict.fromkeys(template.fields, "\0")).split("\0")
    if len(parts) != len(template.fields):
        return None
    # Each field goes up to what first reads like the template's next part, and is not tried any longer: that would
    # take a text of many such parts a power of its length.
    fields = [f"(?>(.*?){re.escape(part)})" for part in parts[:-1]] + [f"(.*){re.escape(parts[-1])}"]
    return re.compile(re.escape(first) + "".join(fields), re.DOTALL | re.IGNORECASE)
