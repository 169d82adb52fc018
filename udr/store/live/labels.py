"""The labels of a partition's rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.search import Mask, Positions


@dataclass(frozen=True, slots=True)
class Labels:
    """The targets of a partition's rows.

    Attributes:
        names: the distinct targets, sorted.
        codes: for each row, by position, the index of its target in ``names``.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, targets: Sequence[str]) -> "Labels":
        """Return the labels of rows with these targets, by position."""
        codes = {name: code for code, name in enumerate(sorted(set(targets)))}
        return cls(tuple(codes), np.fromiter((codes[target] for target in targets), np.int32, len(targets)))

    def followed_by(self, targets: Sequence[str]) -> "Labels":
        """Return the labels of these rows and, after them, of rows with these targets."""
        names = sorted({*self.names, *targets})
        codes = {name: code for code, name in enumerate(names)}
        own = np.array([codes[name] for name in self.names], np.int32)
        more = np.fromiter((codes[target] for target in targets), np.int32, len(targets))
        return Labels(tuple(names), np.concatenate([own[self.codes], more]))

    def at(self, position: int) -> str:
        """Return the target of the row at a position."""
        return self.names[int(self.codes[position])]

    def positions(self, name: str, rows: Mask | None = None) -> Positions:
        """Return the positions of rows with a target, among ``rows``, ascending."""
        code = self.names.index(name) if name in self.names else -1
        found = self.codes == code
        return np.flatnonzero(found if rows is None else found & rows).astype(np.int64)

    def counts(self, rows: Mask | None = None) -> Counter[str]:
        """Return how many rows, among ``rows``, have each target that any row has."""
        codes = self.codes if rows is None else self.codes[rows]
        return Counter(dict(zip(self.names, np.bincount(codes, minlength=len(self.names)).tolist(), strict=True)))
