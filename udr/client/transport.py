"""What both clients do over HTTP, except sending and sleeping: headers, retries, and errors from responses."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Self

import httpx2

from udr import __version__
from udr.client.deadline import Deadline, TooLargeError
from udr.client.environment import proxy_for
from udr.client.problems import Problem
from udr.client.requests import TIMEOUT, Answer, Call
from udr.errors import ConfigError, DataError, DeadlineError, ServiceError, reason
from udr.retrieval import Retrieval

KEY = "UDR_API_KEY"
"""The environment variable with the API key of the service."""

FAILURES = (httpx2.RequestError, httpx2.InvalidURL)
"""The errors that httpx2 raises instead of returning a response."""

TransportResult = httpx2.Response | httpx2.RequestError | httpx2.InvalidURL
"""The result of sending a request."""

# All connections stay open for the next burst, but for less than the 5 s that some servers and proxies keep them:
# otherwise a request could be sent into a connection that is being closed.
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=4.0)

_RETRY_STATUSES = (429, 503)
# Of a proxy that lost the service it had asked; the service's own errors with these statuses are problem documents.
_PROXY_STATUSES = (500, 502, 504)
# A connection broke during the request. Requests only read, or have a key by which they are done once, so sending one
# again is safe.
_BROKEN_CONNECTION = (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError)
# Seconds before the first retry if the service names none; doubled for each retry.
_FIRST_PAUSE = 0.5


class BaseClient:
    """What both clients have in common, of which arguments and errors are documented in ``Client``.

    A copy is the client itself, and a pickle holds its settings.
    """

    def __init__(self, url: str, timeout: float, retries: int, api_key: str | None) -> None:
        _check_url(url)
        if not (math.isfinite(timeout) and timeout > 0):
            raise ConfigError(f"the timeout must be a number of seconds above 0, found {timeout!r}")
        if retries < 0:
            raise ConfigError(f"retries must be 0 or more, found {retries!r}")
        self.url, self._timeout, self._retries = url.rstrip("/"), timeout, retries
        self._has_key = api_key is not None
        self._max_batch: int | None = None
        self._settings: Mapping[str, Any] = {
            "base_url": self.url,
            "headers": {
                "User-Agent": f"udr/{__version__}",
                "Accept": "application/json, application/problem+json",
                TIMEOUT: f"{timeout:g}",
                **_authorization(os.environ.get(KEY, "") if api_key is None else api_key),
            },
            "limits": _LIMITS,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        if self._has_key:
            raise TypeError(f"a client with an api_key is not pickled, since that writes the key; set {KEY} instead")
        return partial(type(self), self.url, timeout=self._timeout, retries=self._retries), ()

    def _deadline(self) -> Deadline:
        """Return the deadline of a call that begins now."""
        return Deadline(self._timeout)

    def _pause(self, result: TransportResult, attempt: int, deadline: Deadline) -> float | None:
        """Return the seconds to wait after an attempt, counted from 0, before the next one; None to stop."""
        pause = _FIRST_PAUSE * 2**attempt
        if isinstance(result, httpx2.Response):
            retry = result.status_code in _RETRY_STATUSES or _from_proxy(result)
            requested = retry_after_seconds(result.headers.get("Retry-After"), datetime.now(UTC))
            pause = pause if requested is None else requested
        else:
            retry = isinstance(result, _BROKEN_CONNECTION)
        return pause if retry and attempt < self._retries and pause <= deadline.left else None

    def _read(self, call: Call[Answer], result: TransportResult) -> Answer:
        """Return the answer to a call.

        Raises:
            RequestError: the service cannot answer this request.
            ServiceError: there is no service at the URL, or the call failed.
        """
        if isinstance(result, httpx2.TimeoutException):
            raise DeadlineError(f"{self.url}: no answer within {self._timeout:g} seconds") from result
        if isinstance(result, TooLargeError):
            raise ServiceError(f"{self.url}: {reason(result)}") from result
        if not isinstance(result, httpx2.Response):
            proxy = proxy_for(self.url)
            through = f" through {proxy}" if proxy else ""
            advice = "check the variable" if proxy else "start the service, or check the URL"
            raise ServiceError(f"{self.url}: cannot be reached{through} ({reason(result)}); {advice}") from result
        body = _object(result)
        if not result.is_success:
            raise _problem(result, body).error(self.url)
        try:
            return call.read(body)
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            message = f"{self.url}: the response to {call.path} is not from a udr service; check the URL"
            raise ServiceError(message, status=result.status_code) from error

    def _retrievals(self, results: Sequence[Retrieval | Problem], after: int) -> list[Retrieval]:
        """Return the results of a batch, or of the part that follows ``after`` requests, if all are retrievals.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its position, from 1.
            ServiceError: the service failed at that request.
        """
        for position, result in enumerate(results, start=after + 1):
            if isinstance(result, Problem):
                raise result.error(self.url, position)
        return [result for result in results if isinstance(result, Retrieval)]


def refuse_closed(http: httpx2.Client | httpx2.AsyncClient) -> None:
    """Raise a ``ConfigError`` if a client's connections are closed for good."""
    if http.is_closed:
        raise ConfigError("this client is closed; make another")


def is_ready(result: TransportResult) -> bool:
    """Return whether the service answered that it is ready."""
    return isinstance(result, httpx2.Response) and result.status_code == httpx2.codes.OK


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a ``Retry-After`` header, a whole number or a date; None if it is missing or invalid."""
    if header is None:
        return None
    if header.isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    # Python returns a date in the zone -0000 without a zone; it is in UTC.
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def _from_proxy(response: httpx2.Response) -> bool:
    own = response.headers.get("Content-Type", "").startswith("application/problem+json")
    return response.status_code in _PROXY_STATUSES and not own


def _authorization(key: str) -> Mapping[str, str]:
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        # Without the key: errors end up in logs.
        raise ConfigError("the API key must be ASCII without spaces; is there a line break at its end?")
    return {"Authorization": f"Bearer {key}"}


def _check_url(url: str) -> None:
    expected = "the service's URL must be like http://127.0.0.1:8000"
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"{expected}, found {url!r}: {error}") from error
    if parts.userinfo:
        # It would replace the key, and appear in every error.
        raise ConfigError(f"{expected}, without a password; give the client an api_key, or set {KEY}")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{expected}, found {url!r}")


def _object(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the response's JSON object, or an empty one if it is anything else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _problem(response: httpx2.Response, body: Mapping[str, Any]) -> Problem:
    type, detail = body.get("type"), body.get("detail") or response.reason_phrase
    return Problem(status=response.status_code, detail=str(detail), type=type if isinstance(type, str) else None)
