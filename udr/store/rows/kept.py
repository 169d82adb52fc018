"""The rows that were read last, since the same demonstrations are near many queries."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

from udr.types import Row, TokenCount

CountedRow = tuple[Row, TokenCount | None]
"""A row, and its token count, if known."""

_CHARACTERS = 4_000_000
"""How much JSON the kept rows may have together; in memory it takes about four times as many bytes."""

_PLAIN = frozenset({str, int, float, bool, type(None)})

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class _Kept:
    row: Row
    tokens: TokenCount | None
    characters: int


class KeptRows:
    """Rows by task and position; those that were not asked for the longest make room for others. Thread-safe.

    Who asks gets an object of their own, which they may change.

    Args:
        characters: how much JSON the rows may have together; a longer row is not kept.
    """

    def __init__(self, characters: int = _CHARACTERS) -> None:
        self._most = self._free = characters
        self._rows: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, task: str, positions: Sequence[int]) -> dict[int, CountedRow]:
        """Return those rows at these positions that are kept."""
        with self._lock:
            found = {at: kept for at in positions if (kept := self._rows.get((task, at))) is not None}
            for at in found:
                self._rows.move_to_end((task, at))
        return {at: (_copy(kept.row), kept.tokens) for at, kept in found.items()}

    def ids(self, task: str, positions: Sequence[int]) -> dict[int, str]:
        """Return the ids of those rows at these positions that are kept."""
        with self._lock:
            return {at: kept.row.id for at in positions if (kept := self._rows.get((task, at))) is not None}

    def keep(self, task: str, position: int, row: Row, tokens: TokenCount | None, characters: int) -> None:
        """Keep a copy of a row, which has so many characters as JSON."""
        if characters > self._most:
            return
        kept = _Kept(_copy(row), tokens, characters)
        with self._lock:
            # Two threads may have read it at the same time.
            if (task, position) not in self._rows:
                self._rows[task, position] = kept
                self._free -= characters
            while self._free < 0:
                _, oldest = self._rows.popitem(last=False)
                self._free += oldest.characters


def _copy(row: Row) -> Row:
    """Return an equal row that shares nothing with it that can be changed."""
    return Row(
        id=row.id,
        input=_own(row.input),
        target=row.target,
        choices=row.choices,
        references=row.references,
        metadata=_own(row.metadata),
    )


def _own(values: Mapping[str, _V]) -> dict[str, _V]:
    # To copy deeply takes twenty times as long, and most values are texts and numbers.
    return {key: value if type(value) in _PLAIN else deepcopy(value) for key, value in values.items()}
