"""Which rows are queries."""

from collections.abc import Iterable, Iterator

from udr.data import Task, copy_text
from udr.types import Row


def distinct(task: Task, rows: Iterable[Row], taken: Iterable[Row] = ()) -> Iterator[Row]:
    """Yield the rows that are copies neither of an earlier one nor of ``taken``.

    Some queries are held out from those that are learned, which a copy among them would undo.
    """
    known = {copy_text(task, row) for row in taken}
    for row in rows:
        if (text := copy_text(task, row)) not in known:
            known.add(text)
            yield row
