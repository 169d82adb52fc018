"""What to do if there are too few test rows: use those that were left out, or hold out more."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from udr.data import Collection


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The rows of a task: the test rows that are used, all of them, and the pool."""

    used: int
    test: int
    pool: int


def count_rows(collection: Collection, limit: int | None) -> dict[str, RowCounts]:
    """Count the rows of the tasks that have test rows; ``limit`` is the most test rows of each that are used."""
    counts = {}
    for name, folder in collection.tasks.items():
        if folder.files("test"):
            test = len(folder.rows("test"))
            counts[name] = RowCounts(min(test, limit or test), test, len(folder.rows("train")))
    return counts


def how_to_use_more(root: str | Path, counts: Mapping[str, RowCounts], needed: int, use_all: str) -> str:
    """Return what to do to evaluate on more test rows, as the end of a message.

    Args:
        root: the folder of tasks.
        counts: by task.
        needed: the test rows that all tasks together should have.
        use_all: the command or the option that uses the test rows that were left out.
    """
    if left_out := sum(count.test - count.used for count in counts.values()):
        rows = "1 test row is" if left_out == 1 else f"{left_out:,} test rows are"
        return f"{rows} left out; to use them: {use_all}"
    each = math.ceil(needed / max(len(counts), 1))
    short = {name: count for name, count in counts.items() if count.test < each}
    # A pool should not become smaller than the test.
    if all(count.test + count.pool >= 2 * each for count in short.values()):
        folder, names = shlex.quote(str(root)), ",".join(short)
        return f"to hold out more: udr tasks split {folder} --tasks {names} --test-rows {each}"
    return f"that takes more rows than there are: add some to {' and '.join(short)}"
