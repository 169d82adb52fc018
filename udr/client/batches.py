"""Several retrievals, cut into batches that a service takes. This module sends nothing."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from udr.client import requests as calls
from udr.client.problems import Problem
from udr.client.requests import Call
from udr.errors import ServiceError
from udr.retrieval import Retrieval, RetrievalRequest

SAFE_BATCH = 64
"""The most requests sent in one batch without first asking the service for its limit."""

_TOO_LARGE = 413
_BYTES = 1_000_000
"""The most bytes of a batch of several requests: services take 2 MiB unless they are set otherwise, and some proxies in
front of them 1 MiB."""


class Batches:
    """The calls for several retrievals, in their order.

    Args:
        requests: the retrievals.
        limit: the most requests in a batch that the service is known to accept; None if that is not known.

    Raises:
        InvalidInputError: a request cannot be encoded as JSON; the message gives its position, from 1.
    """

    def __init__(self, requests: Sequence[RetrievalRequest], limit: int | None) -> None:
        self._bodies, self._done, self._limit = calls.bodies(requests), 0, limit or SAFE_BATCH

    @property
    def next(self) -> Call[Sequence[Retrieval | Problem]] | None:
        """The next call; None if all are done."""
        return calls.batch(self._batch) if self._batch else None

    def done(self) -> None:
        """Go on to the call after this one."""
        self._done += len(self._batch)

    def may_shrink(self, error: ServiceError) -> bool:
        """Return whether a service that refused the next call may take the first of its requests."""
        return error.status == _TOO_LARGE and len(self._batch) > 1

    def shrink(self, limit: int) -> None:
        """Make the next call smaller: at most ``limit`` requests, and half of those that were too many, too large or
        too costly together.
        """
        self._limit = min(limit, len(self._batch) // 2)

    @property
    def _batch(self) -> Sequence[bytes]:
        bodies = self._bodies[self._done : self._done + self._limit]
        sizes = list(accumulate(map(len, bodies)))
        return bodies[: max(1, bisect_right(sizes, _BYTES))]
