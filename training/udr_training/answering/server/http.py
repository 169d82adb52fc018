"""Requests to an OpenAI-compatible server, with bounded concurrency and retries; the only file here with httpx2."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from udr.client import Deadline, fetch_async, open_http, proxy_for
from udr.errors import FeedbackError
from udr_training.answering.server.address import KEY, WORKER_KEY

Send = Callable[[str, Mapping[str, Any] | None], Awaitable[object]]
"""Posts a body to a path, or reads the path if the body is None, and returns the parsed response."""

# Seconds before the first retry, doubled each time up to the longest that no server requested; the longest pause that
# a server may request; and how long a request waits in all for a server that has too many: if it requests pauses, or
# else for a limit by the minute, since it may have refused for good, as for a quota.
_PAUSE, _LONGEST_OWN_PAUSE, _LONGEST_PAUSE, _PATIENCE, _OWN_PATIENCE = 0.5, 30.0, 300.0, 1800.0, 120.0
_NO_ACCESS = (401, 403)
_TIMEOUT, _CONFLICT, _TOO_MANY_REQUESTS, _SERVER_ERROR, _NOT_IMPLEMENTED = 408, 409, 429, 500, 501
_PASSING = (_TIMEOUT, _CONFLICT, _TOO_MANY_REQUESTS, *{*range(_SERVER_ERROR, 600)} - {_NOT_IMPLEMENTED})
# Servers report a prompt that is too long in words, without a code.
_TOO_LONG = ("context length", "context size", "context window", "maximum context", "too long", "longer than")
_MAX_MESSAGE = 300


class RefusedError(FeedbackError):
    """A server refuses a request; ``status`` is that of its response."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """How requests are sent.

    Attributes:
        concurrency: the largest number of open requests.
        timeout_seconds: that a response may take.
        attempts: how often a request that fails is sent; those that a server with too many refuses do not count, for
            some time.
        requests_per_minute: the most requests that are sent in a minute; None for no limit.
        sleep: waits for seconds.
    """

    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6
    requests_per_minute: float | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError("concurrency and attempts must be at least 1")


class _Turns:
    """When requests may be sent: at a rate, and none while the server has asked for a pause, also in later sessions."""

    def __init__(self, policy: RequestPolicy) -> None:
        self._gap = 60.0 / policy.requests_per_minute if policy.requests_per_minute else 0.0
        self._sleep = policy.sleep
        self._next = self._open = 0.0

    async def wait(self, *, paused: bool = True) -> None:
        """Wait for a turn; ``paused`` waits for the end of the server's pause, too."""
        turn = max(self._next, time.monotonic(), self._open if paused else 0.0)
        if self._gap:
            self._next = turn + self._gap
        if (seconds := turn - time.monotonic()) > 0:
            await self._sleep(seconds)

    def pause(self, seconds: float) -> None:
        """Send no new request for some seconds."""
        self._open = max(self._open, time.monotonic() + seconds)


class Server:
    """A server.

    Args:
        url: up to and including ``/v1``.
        key: its API key, if it needs one.
        policy: how requests are sent.
        headers: further headers of every request.
        query: parameters of every request's URL.
        too_long: what to do about a prompt that is too long for the model, as the end of an error.
        on_send: called before every request that is posted, each attempt included, with why the attempt before failed;
            empty at the first.
        key_name: the environment variable of the key, which errors name.
        kept: what an error says of the answers so far.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        policy: RequestPolicy,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        too_long: str = "shorten it",
        on_send: Callable[[str], None] = lambda _: None,
        key_name: str = KEY,
        kept: str = "what was answered is kept",
    ) -> None:
        self.url, self._policy, self._too_long, self._on_send = url, policy, too_long, on_send
        self._kept, self._turns = kept, _Turns(policy)
        # A header, such as Azure's api-key, may hold it, too.
        self._key_name, self._sends_key = key_name, key is not None or bool(headers)
        self._headers = {**({"Authorization": f"Bearer {key}"} if key is not None else {}), **(headers or {})}
        self._query = dict(query or {})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Send]:
        """Keep connections open, and yield a function that sends requests in order of arrival.

        The function raises a FeedbackError if the server cannot be reached or refuses a request.
        """
        slots = asyncio.Semaphore(self._policy.concurrency)
        # No limit of its own: time spent waiting for a connection would count as the server's.
        limits = httpx2.Limits()
        settings = {"base_url": self.url, "headers": self._headers, "params": self._query, "limits": limits}
        async with open_http(httpx2.AsyncClient, self.url, settings) as http:

            async def send(path: str, body: Mapping[str, Any] | None = None) -> object:
                async with slots:
                    return await self._send(http, path, body)

            yield send

    async def _send(self, http: httpx2.AsyncClient, path: str, body: Mapping[str, Any] | None) -> object:
        tried = failed = 0
        waited, problem = 0.0, ""
        while True:
            await self._turns.wait(paused=not tried)
            requested, status, tried, failed = 0.0, 0, tried + 1, failed + 1
            if body is not None:
                self._on_send(problem)
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
                status = response.status_code
                if response.is_success and not _is_error(parsed := _parsed(response)):
                    return parsed
                problem = f"HTTP {status}: {_message(response)}"
                if not response.is_success and status not in _PASSING:
                    raise self._refusal(path, body, problem, status)
                requested = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
                # The server works, and has too many requests: that is no failure, however many others ask it.
                failed -= status == _TOO_MANY_REQUESTS and waited < (_PATIENCE if requested else _OWN_PATIENCE)
            if failed >= self._policy.attempts or requested > _LONGEST_PAUSE:
                break
            pause = max(requested, _PAUSE if requested else min(_LONGEST_OWN_PAUSE, _PAUSE * 2 ** (tried - 1)))
            waited += pause
            if requested or status == _TOO_MANY_REQUESTS:
                self._turns.pause(pause)
            await self._policy.sleep(pause)
        later = f", which requests a pause of {requested:.0f} seconds" if requested > _LONGEST_PAUSE else ""
        check = "check the server"
        if status == _TOO_MANY_REQUESTS:
            check = "check your quota, or give --lm-set requests_per_minute=N, as many as the server takes"
        raise FeedbackError(
            f"{self.url}{path}: {problem}, at attempt {tried}{later}; {check}, then run the same command: {self._kept}"
        )

    def _refusal(self, path: str, body: Mapping[str, Any] | None, problem: str, status: int) -> RefusedError:
        if body is not None and any(words in problem.lower() for words in _TOO_LONG):
            size = sum(len(message["content"]) for message in body["messages"]) if "messages" in body else 0
            message = f"a prompt of {size or len(body['prompt'])} characters is too long for the model ({problem})"
            return RefusedError(f"{self.url}{path}: {message}; {self._too_long}", status)
        check = f"check the address, the model's name and the key in {self._key_name}"
        if status in _NO_ACCESS and not self._sends_key:
            other = ", or name the one that holds the key: --lm-set key=OPENAI_API_KEY"
            check = (
                f"no key was sent, since {self._key_name} is not set, and udr reads no other variable by itself; set it"
                f"{'' if self._key_name == WORKER_KEY else other}"
            )
        return RefusedError(f"{self.url}{path}: refused ({problem}); {check}", status)


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
        # The query may have a secret.
        raise FeedbackError(
            f"{response.url.copy_with(query=None)}: the response is not JSON, it begins with {response.text[:40]!r}; "
            "check the address"
        ) from error


def _is_error(parsed: object) -> bool:
    """Return whether a response is an error, whatever its status: gateways say so of the server behind them."""
    return isinstance(parsed, Mapping) and bool(parsed.get("error")) and not parsed.get("choices")


def _message(response: httpx2.Response) -> str:
    try:
        message: Any = response.json()
    except ValueError:
        message = response.text
    while isinstance(message, Mapping):
        message = next((message[name] for name in ("error", "message", "detail") if message.get(name)), "")
    return " ".join(str(message).split())[:_MAX_MESSAGE] or response.reason_phrase
