"""Counting how many tokens a task's demonstrations are as a prompt shows them, so that no prompt need count them."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from udr.data import demonstration_text
from udr.models import LoadedTokenizer
from udr.store import DemonstrationTable, Partition
from udr_index.build.ingest import unsafe
from udr_index.build.reuse import PreviousVersion

_AT_ONCE = 1024
"""Rows that are tokenised at once, on all cores: an encoding takes some kilobytes."""


def count_rows(
    path: Path,
    part: Partition,
    tokenizer: LoadedTokenizer,
    previous: PreviousVersion | None,
    advance: Callable[[int, int], object],
) -> None:
    """Keep beside a task's rows how many tokens each is; the same rows give the same bytes.

    Args:
        path: the file of the rows, which no one else has open.
        part: the task, and how many rows it has.
        tokenizer: counts.
        previous: a version whose counts are taken over; None counts everything.
        advance: is told how many more rows are counted, and how many of them cost work now.
    """
    task = part.task.name
    # Read first, written then: the table is read as a file that nobody changes. Memory holds a number a row.
    with closing(DemonstrationTable(path)) as table:
        counts = array("I", _counts(table, part, tokenizer, previous, advance))
    with closing(unsafe(path)) as connection, connection:
        connection.executemany("INSERT INTO tokens VALUES (?, ?, ?)", ((task, *count) for count in enumerate(counts)))


def _counts(
    table: DemonstrationTable,
    part: Partition,
    tokenizer: LoadedTokenizer,
    previous: PreviousVersion | None,
    advance: Callable[[int, int], object],
) -> Iterator[int]:
    task = part.task
    for start in range(0, part.count, _AT_ONCE):
        keys = table.text_keys(task.name, start, start + _AT_ONCE)
        known = dict(previous.token_counts(task, keys, tokenizer.fingerprint)) if previous is not None else {}
        new = {key: start + place for place, key in enumerate(keys) if key not in known}
        texts = [demonstration_text(task, row) for row in table.rows(task.name, list(new.values()))]
        known |= zip(new, tokenizer.counts_inside(texts), strict=True)
        advance(len(keys), len(new))
        yield from (known[key] for key in keys)
