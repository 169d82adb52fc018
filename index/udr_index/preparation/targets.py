"""The targets of rows: labels that differ only in spelling, and choices, from one column or a column each."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from udr_index.preparation.values import as_text
from udr_index.quality import differing_in_case


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


def row_choices(columns: Sequence[str], cells: Mapping[str, object], target: str) -> tuple[tuple[str, ...], str]:
    """Return the choices of a row, blank ones omitted, and the target as one of them.

    One column alone holds a list, in CSV as JSON. With several columns, a target that is none of the choices may be the
    name of the column that holds the right one: ``B``.
    """
    if len(columns) == 1:
        return tuple(text for item in _list(cells[columns[0]]) if (text := as_text(item))), target
    by_column = {name: text for name in columns if (text := as_text(cells[name]))}
    choices = tuple(by_column.values())
    return choices, target if target in choices else by_column.get(target, target)


def _list(value: object) -> Sequence[object]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return ()
    return value if isinstance(value, list) else ()
