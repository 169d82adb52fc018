"""Requests to an OpenAI-compatible server, with bounded concurrency and retries; the only file here with httpx2."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from udr.client import Deadline, fetch_async, open_http, proxy_for
from udr.errors import ConfigError, FeedbackError

KEY = "UDR_LM_KEY"
"""The environment variable of the server's API key."""

Send = Callable[[str, Mapping[str, Any] | None], Awaitable[object]]
"""Posts a body to a path, or reads the path if the body is None, and returns the parsed response."""

# Seconds before the first retry, doubled each time; and the longest pause that a server may request.
_PAUSE, _LONGEST_PAUSE = 0.5, 300.0
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500
# Servers report a prompt that is too long in words, without a code.
_TOO_LONG = ("context length", "context size", "context window", "maximum context", "too long", "longer than")
_MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """How requests are sent: ``concurrency`` is the largest number of open ones; ``sleep`` waits before a retry."""

    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError("concurrency and attempts must be at least 1")


class Server:
    """A server, by its URL up to and including ``/v1``, with its API key if it needs one."""

    def __init__(self, url: str, key: str | None, policy: RequestPolicy) -> None:
        self.url, self._policy = url, policy
        self._headers = {"Authorization": f"Bearer {key}"} if key is not None else {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Send]:
        """Keep connections open, and yield a function that sends requests in order of arrival.

        The function raises a FeedbackError if the server cannot be reached or refuses a request.
        """
        slots = asyncio.Semaphore(self._policy.concurrency)
        # No limit of its own: time spent waiting for a connection would count as the server's.
        limits = httpx2.Limits()
        settings = {"base_url": self.url, "headers": self._headers, "limits": limits}
        async with open_http(httpx2.AsyncClient, self.url, settings) as http:

            async def send(path: str, body: Mapping[str, Any] | None = None) -> object:
                async with slots:
                    return await self._send(http, path, body)

            yield send

    async def _send(self, http: httpx2.AsyncClient, path: str, body: Mapping[str, Any] | None) -> object:
        for attempt in range(1, self._policy.attempts + 1):
            requested = 0.0
            try:
                request = {"method": "GET" if body is None else "POST", "url": path, "json": body}
                response = await fetch_async(http, request, Deadline(self._policy.timeout_seconds))
            except httpx2.TimeoutException:
                problem = f"no response within {self._policy.timeout_seconds:g} seconds"
            except httpx2.RequestError as error:
                proxy = proxy_for(self.url)
                through = f" through {proxy}" if proxy else ""
                problem = f"cannot be reached{through} ({error or type(error).__name__})"
            else:
                if response.is_success:
                    return _parsed(response)
                problem = f"HTTP {response.status_code}: {_message(response)}"
                if response.status_code != _TOO_MANY_REQUESTS and response.status_code < _SERVER_ERROR:
                    raise self._refusal(path, body, problem)
                requested = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
            if attempt == self._policy.attempts or requested > _LONGEST_PAUSE:
                break
            await self._policy.sleep(max(requested, _PAUSE * 2 ** (attempt - 1)))
        later = f", which requests a pause of {requested:.0f} seconds" if requested > _LONGEST_PAUSE else ""
        raise FeedbackError(
            f"{self.url}{path}: {problem}, at attempt {attempt}{later}; check the server, then resume: existing scores "
            "are kept"
        )

    def _refusal(self, path: str, body: Mapping[str, Any] | None, problem: str) -> FeedbackError:
        if body is not None and any(words in problem.lower() for words in _TOO_LONG):
            return FeedbackError(
                f"{self.url}{path}: a prompt of {len(body['prompt'])} characters is too long for the model ({problem});"
                " add &characters=N to the model's address to cut demonstrations so that no prompt exceeds N characters"
            )
        return FeedbackError(f"{self.url}{path}: refused ({problem}); check the address, the model's name and {KEY}")


def read_address(name: str) -> tuple[str, str | None, int | None]:
    """Return URL, model and characters of an address, ``http://127.0.0.1:8000/v1?model=NAME&characters=8000``.

    Raises:
        ConfigError: the address is invalid.
    """
    expected = f"a remote language model must be named like http://127.0.0.1:8000/v1?model=NAME, found {name!r}"
    try:
        url = httpx2.URL(name)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"{expected}: {error}") from error
    if url.userinfo:
        raise ConfigError(f"the address of a language model must not contain a password; put the key in {KEY}")
    if url.scheme not in ("http", "https") or not url.host or set(url.params) - {"model", "characters"}:
        raise ConfigError(expected)
    characters = url.params.get("characters")
    if characters is not None and not (characters.isdecimal() and int(characters)):
        raise ConfigError(f"characters= must be a number above 0, the longest text the model takes; found {name!r}")
    base = str(url.copy_with(query=None, fragment=None)).rstrip("/")
    return base, url.params.get("model") or None, int(characters) if characters else None


def retry_after_seconds(header: str | None, now: datetime) -> float:
    """Return the pause that a ``Retry-After`` header requests in seconds or by date; 0 if missing or invalid."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            when = parsedate_to_datetime(header or "")
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    # NaN compares as false, too.
    return seconds if seconds > 0 else 0.0


def _parsed(response: httpx2.Response) -> object:
    try:
        return response.json()
    except ValueError as error:
        raise FeedbackError(
            f"{response.url}: the response is not JSON, it begins with {response.text[:40]!r}; check the address"
        ) from error


def _message(response: httpx2.Response) -> str:
    try:
        message: Any = response.json()
    except ValueError:
        message = response.text
    while isinstance(message, Mapping):
        message = next((message[name] for name in ("error", "message", "detail") if message.get(name)), "")
    return " ".join(str(message).split())[:_MAX_MESSAGE] or response.reason_phrase
