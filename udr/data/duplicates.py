"""Copies: which inputs count as equal, and the keys that find them."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from udr.data.formatting import _field_texts
from udr.data.task import Task, Template
from udr.search import folded
from udr.types import Fields, Row


def copy_key(task: Task, input: Fields, choices: Sequence[str] = ()) -> bytes:
    """Return the key that an input shares only with its copies: a 16-byte hash of ``input_copy_text``."""
    return text_key(input_copy_text(task, input, choices))


def text_key(text: str) -> bytes:
    """Return a 16-byte hash of a text."""
    return hashlib.sha256(text.encode()).digest()[:16]


# A request over many tasks normalises the same text for each task.
@lru_cache(maxsize=16)
def normalised(text: str) -> str:
    """Return a text without case, spaces and punctuation; letters, marks, digits and symbols (emoji, operators) stay.

    Texts that are then equal are copies.
    """
    kept = "".join(character for character in folded(text) if unicodedata.category(character)[0] not in "ZCP")
    return kept or text.strip()


def input_copy_text(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the values of an input's fields, each ``normalised``; copies have the same."""
    return "\n".join(map(normalised, _field_texts(task, input, choices)))


def copy_text(task: Task, row: Row) -> str:
    """Return ``input_copy_text`` of a row."""
    return input_copy_text(task, row.input, row.choices)


def plain_inputs(task: Task, text: str) -> list[Fields]:
    """Return the inputs that a plain text can mean: the task's only field, or the fields of its template."""
    inputs: list[Fields] = [{task.fields[0]: text}] if len(task.fields) == 1 else []
    pattern = _pattern(task.input)
    match = pattern.fullmatch(text) if pattern is not None else None
    return [*inputs, dict(zip(task.fields, match.groups(), strict=True))] if match else inputs


@cache
def _pattern(template: Template) -> re.Pattern[str] | None:
    """Return a pattern of the texts that a template formats, one group per field; None if a field occurs twice."""
    first, *parts = template.render(dict.fromkeys(template.fields, "\0")).split("\0")
    if len(parts) != len(template.fields):
        return None
    # Without backtracking, whose time is polynomial in the text's length: each field ends at the first match of the
    # template's next part.
    fields = [f"(?>(.*?){re.escape(part)})" for part in parts[:-1]] + [f"(.*){re.escape(parts[-1])}"]
    return re.compile(re.escape(first) + "".join(fields), re.DOTALL | re.IGNORECASE)
