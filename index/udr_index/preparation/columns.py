"""Which columns of a table are meant, which can be fields of a template, and the ids that one holds."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from shlex import quote

from udr.data import Template
from udr.errors import ConfigError, brief, listed
from udr.types import Row
from udr_index.plural import counted
from udr_index.preparation.values import as_text

_ID = re.compile(r"(?:.*[\W_])?(?i:id|no|nr|number|key|uuid)\.?|.*[a-z]I[Dd]")
"""Names of columns that number rows: ``id``, ``Ticket ID``, ``ticketId``, ``case_no``."""

_SPLITS = {"train", "training", "test", "testing", "dev", "val", "valid", "validation", "eval"}
_SHOWN_IDS = 5


def find_columns(flag: str, given: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that the values of an option mean.

    Each value is the name of a column, or names separated by commas.

    Raises:
        ConfigError: there is no such column, or one is named twice.
    """
    names: list[str] = []
    for value in given:
        parts = [value] if value.strip() in columns else value.split(",")
        names += [find_column(flag, part, columns) for part in parts if part.strip()]
    if len(set(names)) < len(names):
        raise ConfigError(f"{flag} names a column twice: {', '.join(map(repr, names))}")
    return tuple(names)


def find_column(flag: str, given: str, columns: Sequence[str]) -> str:
    """Return the column of this name; ``ConfigError`` if there is none."""
    name = given.strip()
    if name not in columns:
        by_case = {column.casefold(): column for column in columns}
        near = difflib.get_close_matches(name.casefold(), by_case, 1)
        meant = f"; did you mean {by_case[near[0]]!r}? The" if near else "; the"
        if (outer := name.partition(".")[0]) in columns:
            meant = f"; a key within {outer!r} is no column: flatten the table, with a column for each key. The"
        known = listed(map(brief, columns), len(columns))
        raise ConfigError(f"{flag}: there is no column {brief(name)}{meant} columns are {known}")
    return name


def id_column(rows: Sequence[Row]) -> str | None:
    """Return the first column that only rows' metadata has, is named as ids are, and tells all rows apart."""
    for name in dict.fromkeys(name for row in rows for name in row.metadata):
        if _ID.fullmatch(name) and len({as_text(row.metadata.get(name)) for row in rows} - {""}) == len(rows):
            return name
    return None


def distinct_ids(rows: Sequence[tuple[int, str, Row]], column: str | None) -> tuple[list[str], list[str]]:
    """Return distinct ids, and a sentence each on what was done to make them distinct.

    Args:
        rows: the line, the id in the table (or an empty text, for which the line number is taken) and the row itself.
        column: the column of ids, if one was named.
    """
    width = len(str(rows[-1][0]))
    wanted = [given or f"{line:0{width}}" for line, given, _ in rows]
    taken, used, ids, repeated = set(wanted), Counter[str](), list[str](), dict[str, None]()
    for id in wanted:
        distinct = id
        while used[id] and distinct in taken:
            used[id] += 1
            distinct = f"{id}-{used[id]}"
        if distinct != id:
            repeated[id] = None
        taken.add(distinct)
        used[distinct] += 1
        ids.append(distinct)
    notices = []
    if repeated:
        first = ", ".join([*map(repr, islice(repeated, _SHOWN_IDS)), *["..."][: len(repeated) > _SHOWN_IDS]])
        notices.append(
            f"{counted(len(repeated), 'id is', 'ids are')} repeated in the column {column!r}: {first}; the ids of "
            "later rows got -2, -3, ... at their end"
        )
    if column is not None and (without := sum(not given for _, given, _ in rows)):
        rows_have = counted(without, "row has", "rows have")
        notices.append(f"{rows_have} no id in the column {column!r}; line numbers are used instead")
    if column is None and (found := id_column([row for _, _, row in rows])) is not None:
        notices.append(f"rows are named by their line numbers; --id {quote(found)} names them by that column")
    return ids, notices


def split_notices(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each column that only rows' metadata has, and that names splits."""
    for name in dict.fromkeys(name for row in rows for name in row.metadata):
        values = dict.fromkeys(as_text(row.metadata.get(name)) for row in rows if name in row.metadata)
        if len(values) > 1 and {value.casefold() for value in values} <= _SPLITS:
            yield (
                f"the column {name!r} names splits ({', '.join(values)}), which are not followed; to keep them, add "
                f"--test-rows 0, then move the lines of the test, by {name!r} in their metadata, from train.jsonl to "
                "test.jsonl"
            )


def check_field(name: str) -> None:
    """Raise ``ConfigError`` unless a template can use a column's name."""
    if Template(f"{{{name}}}").fields != (name,):
        raise ConfigError(
            f"--input: a template cannot use the column name {brief(name)}; rename the column, with a letter and "
            "without quotes, braces, backslashes and line breaks"
        )
