"""The targets of rows: labels that differ only in spelling, and choices, from one column or a column each."""

import ast
import json
import re
import string
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from udr.errors import listed
from udr_index.preparation.values import as_text
from udr_index.quality import differing_in_case

_TEXT, _NAME = "the text of a choice", "the name of a choice"
_NUMBERS: Mapping[str, Sequence[str]] = {
    f"the number of a choice, of which the first is {numbers[0]}": numbers
    for numbers in (
        [str(n) for n in range(100)],
        [str(n) for n in range(1, 100)],
        [*string.ascii_uppercase],
        [*string.ascii_lowercase],
    )
}
_READINGS = (_TEXT, _NAME, *_NUMBERS)
"""What the targets of a table can be, in words."""

FORMS = (
    "Choices are a column each, or one column with a list, an object of choices by name, or an object with the lists "
    "'text' and 'label', as JSON or Python writes them. The targets of all rows are texts of choices; or all are names "
    "of their columns or in their objects; or all number the choices, from 0, 1, A or a, and only one of these fits"
)
"""What a table of multiple choice should have, in words."""


def spellings(labels: Iterable[str]) -> list[Mapping[str, int]]:
    """Return the groups of labels of all rows that differ only in case, spaces or Unicode form.

    Each has the labels with their numbers of rows, the most frequent first.
    """
    counts = dict(Counter(label for label in labels if label).most_common())
    return [{label: counts[label] for label in group} for group in differing_in_case(counts)]


def spelling_notices(groups: Iterable[Mapping[str, int]], merged: bool) -> Iterator[str]:
    """Yield a sentence for each group of ``spellings``, whose first label has replaced the others if ``merged``."""
    for group in groups:
        labels = ", ".join(f"{label!r} ({count})" for label, count in group.items())
        done = f"all became {next(iter(group))!r}" if merged else "--merge-labels makes them one"
        yield f"the labels {labels} differ only in case, spaces or Unicode form; {done}"


def number_notices(labels: Sequence[str]) -> Iterator[str]:
    """Yield a sentence if all labels are bare numbers."""
    if labels and all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in labels):
        words = "which say little to a language model; in task.toml, [verbalizer] gives each a word to read and write"
        yield f"all labels are numbers ({listed(labels, len(labels))}), {words}"


def right_answers(value: object) -> list[str] | None:
    """Return the different texts of a list, or of the list ``text`` of an object, as SQuAD has them."""
    found = value.get("text") if isinstance(value, dict) else value
    return [*dict.fromkeys(filter(None, map(as_text, found)))] if isinstance(found, list) else None


def row_choices(
    columns: Sequence[str], cells: Mapping[str, object], target: str, reading: str
) -> tuple[tuple[str, ...], str]:
    """Return the choices of a row, blank ones omitted, and the target as one of them; an empty text if it is none.

    One column alone holds all of them, in CSV as JSON or as Python writes it. ``reading`` is what targets are; see
    ``find_reading``.
    """
    names, texts = _names_and_texts(columns, cells)
    return tuple(filter(None, texts)), _meant(names, texts, target, reading)


def find_reading(columns: Sequence[str], rows: Iterable[tuple[Mapping[str, object], str]]) -> str:
    """Return, in words, what targets are, so that the most are choices: of equals, their texts, and then their names.

    Empty if none are, or if only numberings are equals, since nothing tells them apart.
    """
    fits = dict.fromkeys(_READINGS, 0)
    for cells, target in rows:
        names, texts = _names_and_texts(columns, cells)
        for reading in _READINGS:
            fits[reading] += bool(target and _meant(names, texts, target, reading))
    most = max(fits.values())
    best = [reading for reading, count in fits.items() if count == most]
    return best[0] if most and (len(best) == 1 or best[0] not in _NUMBERS) else ""


def _meant(names: Sequence[str], texts: Sequence[str], target: str, reading: str) -> str:
    called = {_TEXT: texts, _NAME: names, **_NUMBERS}.get(reading, ())
    return dict(zip(called, texts, strict=False)).get(target, "")


def _names_and_texts(columns: Sequence[str], cells: Mapping[str, object]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names and the texts of a row's choices; no names if they are a list."""
    if len(columns) > 1:
        return columns, [as_text(cells.get(name)) for name in columns]
    found = cells[columns[0]]
    if isinstance(found, str) and found.startswith(("[", "{")):
        found = _parsed(found)
    if isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
        found = {key: [item.get(key) for item in found] for key in ("text", "label")}
    if isinstance(found, list):
        return (), [*map(as_text, found)]
    if not isinstance(found, dict):
        return (), ()
    texts, labels = found.get("text"), found.get("label")
    if not (isinstance(texts, list) and isinstance(labels, list)):
        texts, labels = found.values(), found
    return [*map(as_text, labels)], [*map(as_text, texts)]


def _parsed(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    # Python warns of backslashes that escape nothing.
    with warnings.catch_warnings(), suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)
    return ()
