"""Which columns of a table are meant, and which can be fields of a template."""

import difflib
import re
from collections.abc import Sequence

from udr.data import Template
from udr.errors import ConfigError, brief, listed
from udr.types import Row
from udr_index.preparation.values import as_text

_ID = re.compile(r"(?:.*[\W_])?(?i:id|no|nr|number|key|uuid)\.?|.*[a-z]I[Dd]")
"""Names of columns that number rows: ``id``, ``Ticket ID``, ``ticketId``, ``case_no``."""


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
        known = listed(map(brief, columns), len(columns))
        raise ConfigError(f"{flag}: there is no column {brief(name)}{meant} columns are {known}")
    return name


def id_column(rows: Sequence[Row]) -> str | None:
    """Return the first column that only rows' metadata has, is named as ids are, and tells all rows apart."""
    for name in dict.fromkeys(name for row in rows for name in row.metadata):
        if _ID.fullmatch(name) and len({as_text(row.metadata.get(name)) for row in rows} - {""}) == len(rows):
            return name
    return None


def check_field(name: str) -> None:
    """Raise ``ConfigError`` unless a template can use a column's name."""
    if Template(f"{{{name}}}").fields != (name,):
        raise ConfigError(
            f"--input: a template cannot use the column name {brief(name)}; rename the column, with a letter and "
            "without quotes, braces, backslashes and line breaks"
        )
