"""The values of cells: texts stripped, and what JSON lacks as text."""

import datetime
import decimal
import json
import math
import re
import uuid
from typing import cast

from udr.data import value_text
from udr.types import Value, is_value

_INEXACT = 2.0**53


class _Unfit:
    def __repr__(self) -> str:
        return "a value that JSON lacks, such as bytes or an infinite number"


UNFIT = _Unfit()
"""A value that a row cannot keep, such as bytes."""


def tidy(value: object) -> object:
    """Return a cell as a row keeps it: texts stripped, with line feeds at line ends; dates and times in ISO 8601.

    NaN is absent, as in Parquet. ``UNFIT`` if there is no such value, as for infinity, which JSON's ``1e400`` is.
    """
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return UNFIT if math.isinf(value) else None if math.isnan(value) else value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, list | tuple):
        items = [tidy(item) for item in value]
        return UNFIT if UNFIT in items else items
    if isinstance(value, dict):
        pairs = {str(key): tidy(item) for key, item in value.items()}
        return UNFIT if UNFIT in pairs.values() else pairs
    return UNFIT


def number(text: str) -> int | float | None:
    """Return the number that a text is, if it can be written only so: None for ``007``, ``1.50`` and ``+1``."""
    if not re.fullmatch(r"-?[0-9][0-9.e+-]*", text):
        return None
    try:
        value: int | float = json.loads(text)
    except ValueError:
        return None
    return value if json.dumps(value) == text else None


def without_fraction(value: object) -> object:
    """Return a whole float as an integer, if floats tell it from its neighbours; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and not is_inexact(value) else value


def is_inexact(value: object) -> bool:
    """Return whether a value is a float so large that its neighbours among whole numbers are the same float."""
    return isinstance(value, float) and abs(value) >= _INEXACT


def as_text(value: object) -> str:
    """Return a tidy value as a target or an id; a whole number is without the fraction that a NaN beside it adds."""
    value = without_fraction(value)
    return value_text(cast("Value", value)).strip() if is_value(value) else ""
