"""The choices of a multiple-choice row: one column lists them, or each has a column of its own."""

import json
from collections.abc import Mapping, Sequence

from udr_index.preparation.values import as_text


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
