"""What a request may ask for: its time, and its numbers."""

from dataclasses import replace

from starlette.requests import Request

from udr.client import TIMEOUT
from udr.errors import InvalidInputError
from udr.retrieval import DefaultK, RetrievalRequest
from udr_service.errors import KTooLargeError
from udr_service.settings import Settings


def timeout_of(request: Request, limit: float) -> float:
    """Return how many seconds a request may take: its header may lower the limit.

    Raises:
        InvalidInputError: the header is not a number of seconds.
    """
    header = request.headers.get(TIMEOUT)
    if header is None:
        return limit
    try:
        seconds = float(header)
    except ValueError:
        seconds = 0.0
    # False for "nan", too.
    if not seconds > 0:
        raise InvalidInputError(f"the header {TIMEOUT} must be a number of seconds above 0; found {header[:40]!r}")
    return min(seconds, limit)


def within_limits(request: RetrievalRequest, settings: Settings) -> RetrievalRequest:
    """Return a request whose default number of demonstrations is within the limits.

    Raises:
        KTooLargeError: it asks for more.
    """
    if isinstance(request.k, DefaultK):
        request = replace(request, k=DefaultK(min(request.k, settings.max_k)))
    for name, value, limit in (
        ("k", request.k, settings.max_k),
        ("candidates", request.candidates or 0, settings.max_candidates),
    ):
        if value > limit:
            raise KTooLargeError(f"{name} must be at most {limit}, the limit of this service; found {value}")
    return request
