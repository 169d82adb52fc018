"""Labels: which target each row of a partition has, kept as numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.search import Positions


@dataclass(frozen=True, slots=True)
class Labels:
    """The targets of a partition's rows.

    Attributes:
        names: the targets, each once.
        codes: for each row, by position, the place of its target in ``names``.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, targets: Sequence[str]) -> "Labels":
        """Return the labels of rows that have these targets, in the order of their positions."""
        places = {name: code for code, name in enumerate(sorted(set(targets)))}
        return cls(tuple(places), np.fromiter((places[target] for target in targets), np.int32, len(targets)))

    def at(self, position: int) -> str:
        """Return the target of the row at a position."""
        return self.names[int(self.codes[position])]

    def positions(self, name: str) -> Positions:
        """Return where a target is, ascending; nowhere, where no row has it."""
        code = self.names.index(name) if name in self.names else -1
        return np.flatnonzero(self.codes == code).astype(np.int64)

    def counts(self) -> Counter[str]:
        """Return how many rows have each target."""
        return Counter(dict(zip(self.names, np.bincount(self.codes, minlength=len(self.names)).tolist(), strict=True)))


def rounds(counts: Counter[str], k: int) -> dict[str, int]:
    """Return how many of each label a choice of k in rounds may take, one of each label a round."""
    taken, turn = 0, 0
    while taken < k and turn < max(counts.values(), default=0):
        turn += 1
        taken = sum(min(count, turn) for count in counts.values())
    return {name: min(count, turn) for name, count in counts.items()}
