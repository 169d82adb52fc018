"""Problems (RFC 9457): the body of an error response, and the errors that the clients raise for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from udr.errors import (
    AccessError,
    ConflictError,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    RequestError,
    ServiceError,
    TooLongError,
    UnknownPromptError,
    UnknownTaskError,
)

PROBLEM = "urn:udr:problem:"
"""The prefix of the type of every problem of a udr service."""

PROBLEM_ERRORS: Mapping[str, type[RequestError]] = {
    f"{PROBLEM}unknown-task": UnknownTaskError,
    f"{PROBLEM}unknown-prompt": UnknownPromptError,
    f"{PROBLEM}invalid-input": InvalidInputError,
    f"{PROBLEM}k-too-large": InvalidInputError,
    f"{PROBLEM}too-long": TooLongError,
    f"{PROBLEM}row-changed": ConflictError,
}
"""The problems of the request itself, raised as a retriever raises them."""

# All other problems, by status: a proxy in front of the service keeps the status, but not the type.
_STATUS_ERRORS: Mapping[int, type[ServiceError]] = {
    401: AccessError,
    403: AccessError,
    429: OverloadedError,
    503: OverloadedError,
    504: DeadlineError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request failed.

    Attributes:
        status: the HTTP status.
        detail: what was asked, what was found, what to do.
        type: a URN, or None if the response is not from a udr service.
    """

    status: int
    detail: str
    type: str | None

    def error(self, url: str, position: int | None = None) -> RequestError | ServiceError:
        """Return the error to raise for the request at this position of a batch, from 1, or outside a batch."""
        detail = self.detail if position is None else f"request {position}: {self.detail}"
        if self.type is not None and self.type in PROBLEM_ERRORS:
            return PROBLEM_ERRORS[self.type](detail)
        hint = "; give the client an api_key, or set UDR_API_KEY" if self.status == 401 else ""
        kind = _STATUS_ERRORS.get(self.status, ServiceError)
        return kind(f"{url}: {detail} (HTTP {self.status}){hint}", status=self.status, type=self.type)
