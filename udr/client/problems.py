"""Problems: what a service answers where it has no answer (RFC 9457), and the errors that the clients make of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from udr.errors import (
    AccessError,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    RequestError,
    ServiceError,
    TooLongError,
    UnknownTaskError,
)

PROBLEM = "urn:udr:problem:"
"""What the type of every problem of the service begins with."""

PROBLEM_ERRORS: Mapping[str, type[RequestError]] = {
    f"{PROBLEM}unknown-task": UnknownTaskError,
    f"{PROBLEM}invalid-input": InvalidInputError,
    f"{PROBLEM}k-too-large": InvalidInputError,
    f"{PROBLEM}too-long": TooLongError,
}
"""The problems that are the request's own, and raised as the retriever raises them."""

STATUS_ERRORS: Mapping[int, type[ServiceError]] = {
    401: AccessError,
    403: AccessError,
    429: OverloadedError,
    503: OverloadedError,
    504: DeadlineError,
}
"""What every other problem is raised as, by its status: a proxy before the service has the status, but not the type."""

_HINTS = {401: "; give the client an api_key, or set UDR_API_KEY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why there is no answer.

    Attributes:
        status: the HTTP status.
        detail: what was asked, what was found, what to do.
        type: a URN, or None where it was not a udr service that answered.
    """

    status: int
    detail: str
    type: str | None

    def error(self, url: str, place: int | None = None) -> RequestError | ServiceError:
        """Return the error that it is raised as.

        Args:
            url: the service that answered.
            place: the place of the request in its batch, from 1; None where it was alone.
        """
        detail = self.detail if place is None else f"request {place}: {self.detail}"
        if self.type is not None and self.type in PROBLEM_ERRORS:
            return PROBLEM_ERRORS[self.type](detail)
        kind = STATUS_ERRORS.get(self.status, ServiceError)
        said = f"{url}: {detail} (HTTP {self.status}){_HINTS.get(self.status, '')}"
        return kind(said, status=self.status, type=self.type)
