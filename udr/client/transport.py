"""How a udr service is spoken to over HTTP: all that the two clients do, but for the sending and the waiting."""

import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from udr import __version__
from udr.client.problems import Problem
from udr.client.requests import TIMEOUT, Answer, Call
from udr.errors import ConfigError, DataError, DeadlineError, ServiceError, reason
from udr.retrieval import Retrieval

KEY = "UDR_API_KEY"
"""The environment variable that holds the API key of the service, where it wants one."""

FAILURES = (httpx2.RequestError, httpx2.InvalidURL)
"""What httpx2 raises where there is no response."""

TransportResult = httpx2.Response | httpx2.RequestError | httpx2.InvalidURL
"""What came of sending a request."""

# Every connection may be kept, so that the next burst finds it; for less long than uvicorn keeps an idle one (5 s),
# or now and then a request would be sent into a connection that is just being closed.
LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=4.0)

_LATER = (429, 503)
# A connection that broke under way. Requests only read, so that one may be sent again whatever became of it.
_BROKEN = (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError)
# Seconds before the first retry when the service names none; doubled each time.
_PAUSE = 0.5


class ClientProtocol:
    """What is sent with every request, what is made of the outcome, and when to ask again.

    Args:
        url: where the service is.
        timeout: seconds to wait for a connection or for an answer, and the longest pause before a retry.
        retries: how often a request is sent again.

    Raises:
        ConfigError: the URL is none, or a number makes no sense.
    """

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        _check(url)
        if not (math.isfinite(timeout) and timeout > 0):
            raise ConfigError(f"the timeout must be a number of seconds above 0, found {timeout!r}")
        if retries < 0:
            raise ConfigError(f"retries must be 0 or more, found {retries!r}")
        self.url, self._timeout, self._retries = url.rstrip("/"), timeout, retries
        # Whoever waits for a connection of the client's own waits for no service: that time is not counted.
        self.timeouts = httpx2.Timeout(timeout, pool=None)

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the headers of every request; the environment has the key where none is given.

        Raises:
            ConfigError: a header cannot hold the key.
        """
        headers = {
            "User-Agent": f"udr/{__version__}",
            "Accept": "application/json, application/problem+json",
            TIMEOUT: f"{self._timeout:g}",
        }
        key = os.environ.get(KEY, "") if api_key is None else api_key
        if not key:
            return headers
        if not (key.isascii() and key.isprintable() and " " not in key):
            # The key is not shown: errors end up in logs.
            raise ConfigError("the API key must be ASCII without spaces; is there a line break at its end?")
        return {**headers, "Authorization": f"Bearer {key}"}

    def pause(self, outcome: TransportResult, attempt: int) -> float | None:
        """Return the seconds to wait before the request is sent again, or None where it is not.

        Args:
            outcome: what came of it.
            attempt: how often it was sent again already.
        """
        response = outcome if isinstance(outcome, httpx2.Response) else None
        again = isinstance(outcome, _BROKEN) if response is None else response.status_code in _LATER
        if not again or attempt >= self._retries:
            return None
        asked = None if response is None else asked_pause(response.headers.get("Retry-After"), datetime.now(UTC))
        pause = _PAUSE * 2**attempt if asked is None else asked
        return pause if pause <= self._timeout else None

    def answer(self, call: Call[Answer], outcome: TransportResult) -> Answer:
        """Return the answer to a call.

        Raises:
            RequestError: the service cannot answer this request.
            ServiceError: there is no service, or it did not answer as one.
        """
        if isinstance(outcome, httpx2.TimeoutException):
            raise DeadlineError(f"{self.url}: no answer within {self._timeout:g} seconds") from outcome
        if not isinstance(outcome, httpx2.Response):
            said = reason(outcome)
            raise ServiceError(f"{self.url}: cannot be reached ({said}); is the service running there?") from outcome
        body = _object(outcome)
        if not outcome.is_success:
            raise _problem(outcome, body).error(self.url)
        try:
            return call.read(body)
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            raise ServiceError(
                f"{self.url}: the answer to {call.path} is not a udr service's; check the URL",
                status=outcome.status_code,
            ) from error

    def retrievals(self, results: Sequence[Retrieval | Problem], after: int) -> list[Retrieval]:
        """Return the results of a batch, or of a piece of one, if all of them are retrievals.

        Args:
            results: in the order of the requests.
            after: how many requests of the batch came before these.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its place, from 1.
            ServiceError: the service failed at it.
        """
        retrievals = []
        for place, result in enumerate(results, start=after + 1):
            if isinstance(result, Problem):
                raise result.error(self.url, place)
            retrievals.append(result)
        return retrievals


def is_ready(outcome: TransportResult) -> bool:
    """Say whether a service answered that it is ready."""
    return isinstance(outcome, httpx2.Response) and outcome.status_code == httpx2.codes.OK


def asked_pause(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, whole ones or up to a date; None where it says neither."""
    if header is None:
        return None
    if header.isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    # A date with the zone -0000 has none, as Python sees it; it is in UTC.
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


def _check(url: str) -> None:
    wanted = "the service's URL must be like http://127.0.0.1:8000"
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"{wanted}, found {url!r}: {error}") from error
    if parts.userinfo:
        # It would take the place of the key, and be read in every error.
        raise ConfigError(f"{wanted}, without a password; give the client an api_key, or set {KEY}")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{wanted}, found {url!r}")


def _object(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the JSON object that was answered; an empty one where it was something else."""
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _problem(response: httpx2.Response, body: Mapping[str, Any]) -> Problem:
    type, detail = body.get("type"), body.get("detail") or response.reason_phrase
    return Problem(status=response.status_code, detail=str(detail), type=type if isinstance(type, str) else None)
