"""How much may wait, in plain queries, and how fast it is done."""

import bisect
import itertools
from collections import deque

from udr.errors import OverloadedError
from udr_service.errors import CostError

_FEWEST, _REMEMBERED = 9, 64
"""How many batches the pace needs, or no request is refused as too slow; and from how many recent ones it is taken."""

_MARGIN = 1.5
"""How far the estimated time may exceed a deadline: the next batch may be faster than the last ones."""


def refuse_costly(cost: int, limit: int) -> None:
    """Raise a ``CostError`` if a request costs more than may ever wait."""
    if cost > limit:
        raise CostError(
            f"the request costs as much as {cost} plain queries; the queue takes {limit}; send fewer or shorter "
            "queries at once, or ask for fewer demonstrations or candidates"
        )


def refuse_overload(waiting: int, cost: int, limit: int) -> None:
    """Raise an ``OverloadedError`` if a request costs more than may wait beside what does."""
    if waiting + cost > limit:
        raise OverloadedError(
            f"requests are waiting that cost as much as {waiting} plain queries, and this one {cost}; the limit is "
            f"{limit}; try again later"
        )


class Pace:
    """The seconds for what costs as much as a plain query, by recent batches.

    It is the median over the cost, not over batches: one slow batch must not refuse requests, nor many small ones,
    which take longer for their cost.
    """

    def __init__(self) -> None:
        # Of recent batches: the seconds for each unit of cost, and the cost.
        self._batches: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)
        # 0 while too few batches are known.
        self._seconds = 0.0

    def add(self, seconds: float, cost: int) -> None:
        """Count a batch."""
        self._batches.append((seconds / cost, cost))
        if len(self._batches) >= _FEWEST:
            ordered = sorted(self._batches)
            sums = list(itertools.accumulate(cost for _, cost in ordered))
            self._seconds = ordered[bisect.bisect_left(sums, sums[-1] / 2)][0]

    def refuse_late(self, before: int, cost: int, within: float) -> None:
        """Raise an ``OverloadedError`` if a request that waits for what costs ``before`` would end too late."""
        seconds = (before + cost) * self._seconds
        if before and _MARGIN * seconds > within:
            raise OverloadedError(
                f"what waits costs as much as {before} plain queries, so this request would take about {seconds:.2g} "
                f"seconds, but has only {within:.2g}; try again later"
            )
