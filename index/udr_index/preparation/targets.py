"""The targets of rows: labels that differ only in spelling, and choices, from one column or a column each."""

import ast
import json
import string
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from udr_index.preparation.values import as_text
from udr_index.quality import differing_in_case

_NUMBERINGS = ([str(n) for n in range(100)], [str(n) for n in range(1, 100)], [*string.ascii_uppercase])
"""The ways in which a target can number the choices of its row."""


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


def row_choices(
    columns: Sequence[str], cells: Mapping[str, object], target: str, numbers: Sequence[str] = ()
) -> tuple[tuple[str, ...], str]:
    """Return the choices of a row, blank ones omitted, and the target as one of them.

    One column alone holds a list, in CSV as JSON or as Python writes it. With several columns, a target that is none of
    the choices may be the name of the column that holds the right one: ``B``. ``numbers`` are those of the choices, if
    targets are numbers; see ``numbering``.
    """
    texts = _texts(columns, cells)
    choices = tuple(filter(None, texts))
    names = numbers or (columns if len(columns) > 1 else ())
    return choices, target if target in choices else dict(zip(names, texts, strict=False)).get(target) or target


def numbering(columns: Sequence[str], rows: Iterable[tuple[Mapping[str, object], str]]) -> Sequence[str]:
    """Return how the targets of all rows number their choices: ``0, 1, ...``, ``1, 2, ...`` or ``A, B, ...``.

    Nothing if any is a choice or the name of a column, or no choice's number, or if two ways fit.
    """
    fits = list(_NUMBERINGS)
    for cells, target in rows:
        texts = _texts(columns, cells)
        if target and len(texts) > 1:
            named = target in texts or (len(columns) > 1 and target in columns)
            fits = [] if named else [numbers for numbers in fits if target in numbers[: len(texts)]]
        if not fits:
            break
    return fits[0] if len(fits) == 1 else ()


def _texts(columns: Sequence[str], cells: Mapping[str, object]) -> list[str]:
    return [as_text(item) for item in (_list(cells[columns[0]]) if len(columns) == 1 else map(cells.get, columns))]


def _list(value: object) -> Sequence[object]:
    found = _parsed(value) if isinstance(value, str) and value.startswith("[") else value
    return found if isinstance(found, list) else ()


def _parsed(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    # Python warns of backslashes that escape nothing.
    with warnings.catch_warnings(), suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)
    return ()
