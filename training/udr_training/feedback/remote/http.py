"""Requests to an OpenAI-compatible server: bounded, patient, and in one place. The one file of training with httpx2."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from udr.errors import ConfigError, FeedbackError

KEY = "UDR_LM_KEY"
"""The environment variable that holds the server's API key, where it wants one."""

Ask = Callable[[str, Mapping[str, Any] | None], Awaitable[object]]
"""Sends a body to a path, or reads it where there is none, and returns the parsed answer."""

# Seconds before the first retry, doubled each time; and the longest that a server may ask to wait.
_PAUSE, _LONGEST_PAUSE = 0.5, 300.0
_TOO_MANY, _FAILING = 429, 500
# How servers say that a prompt is too long; they have no code for it.
_TOO_LONG = ("context length", "context size", "context window", "maximum context", "too long", "longer than")
# Characters of a server's message that are shown.
_SHOWN = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a server is asked.

    Attributes:
        concurrency: the most requests under way at once.
        timeout_seconds: how long to wait for a connection or for an answer.
        attempts: how often a request is sent before it counts as failed.
        sleep: waits before a retry; takes seconds.
    """

    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.attempts < 1:
            raise ValueError("a server is asked at least once, and one request at a time at least")


PATIENCE = Patience()
"""How a server is asked unless told otherwise."""


class Server:
    """Sends requests to a server, a few at a time, and again where that may help.

    Args:
        url: where the server is, up to and including ``/v1``.
        key: its API key, if it wants one.
        patience: how it is asked.
    """

    def __init__(self, url: str, key: str | None, patience: Patience) -> None:
        self.url, self._patience = url, patience
        self._headers = {"Authorization": f"Bearer {key}"} if key is not None else {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Keep connections open for requests, which wait for their turns, first come, first served.

        What it yields raises a FeedbackError where the server cannot be reached, or refuses a request.
        """
        turns = asyncio.Semaphore(self._patience.concurrency)
        # The pool has no bound of its own: time spent waiting there would count as the server's.
        limits = httpx2.Limits()
        async with httpx2.AsyncClient(
            base_url=self.url, headers=self._headers, timeout=self._patience.timeout_seconds, limits=limits
        ) as http:

            async def ask(path: str, body: Mapping[str, Any] | None = None) -> object:
                async with turns:
                    return await self._send(http, path, body)

            yield ask

    async def _send(self, http: httpx2.AsyncClient, path: str, body: Mapping[str, Any] | None) -> object:
        for attempt in range(1, self._patience.attempts + 1):
            asked = 0.0
            try:
                response = await http.request("GET" if body is None else "POST", path, json=body)
            except httpx2.TimeoutException:
                found = f"no answer within {self._patience.timeout_seconds:g} seconds"
            except httpx2.RequestError as error:
                found = f"cannot be reached ({error or type(error).__name__})"
            else:
                if response.is_success:
                    return self._parsed(response)
                found = f"HTTP {response.status_code}: {_message(response)}"
                if response.status_code != _TOO_MANY and response.status_code < _FAILING:
                    raise self._refusal(path, body, found)
                asked = asked_pause(response.headers.get("Retry-After"), datetime.now(UTC))
            if attempt == self._patience.attempts or asked > _LONGEST_PAUSE:
                break
            await self._patience.sleep(max(asked, _PAUSE * 2 ** (attempt - 1)))
        later = f", which wants to be asked again in {asked:.0f} seconds" if asked > _LONGEST_PAUSE else ""
        raise FeedbackError(
            f"{self.url}{path}: {found}, at attempt {attempt}{later}; see to the server, then start again: what "
            "is scored is kept"
        )

    def _parsed(self, response: httpx2.Response) -> object:
        try:
            return response.json()
        except ValueError as error:
            raise FeedbackError(
                f"{response.url}: the answer is no JSON, it begins {response.text[:40]!r}; check the address"
            ) from error

    def _refusal(self, path: str, body: Mapping[str, Any] | None, found: str) -> FeedbackError:
        if body is not None and any(words in found.lower() for words in _TOO_LONG):
            return FeedbackError(
                f"{self.url}{path}: a prompt of {len(body['prompt'])} characters is too long for the model ({found}); "
                "add &characters=N to the model's address, and demonstrations lose what is beyond N characters"
            )
        return FeedbackError(f"{self.url}{path}: refused ({found}); check the address, the model's name and {KEY}")


@dataclass(frozen=True, slots=True)
class Address:
    """What a remote language model's name says.

    Attributes:
        url: where the server is, up to and including ``/v1``.
        model: the model's name, where it is given.
        characters: the longest text that the model takes, where it is given.
    """

    url: str
    model: str | None
    characters: int | None


def read_address(name: str) -> Address:
    """Return what a name such as ``http://127.0.0.1:8000/v1?model=NAME&characters=8000`` says.

    Raises:
        ConfigError: it is no such address.
    """
    wanted = f"a remote language model is named like http://127.0.0.1:8000/v1?model=NAME, found {name!r}"
    try:
        url = httpx2.URL(name)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"{wanted}: {error}") from error
    if url.userinfo:
        raise ConfigError(f"the address of a language model must hold no password; put the key into {KEY}")
    if url.scheme not in ("http", "https") or not url.host or set(url.params) - {"model", "characters"}:
        raise ConfigError(wanted)
    characters = url.params.get("characters")
    if characters is not None and not (characters.isdecimal() and int(characters)):
        raise ConfigError(f"characters= must be a number above 0, the longest text the model takes; found {name!r}")
    return Address(
        url=str(url.copy_with(query=None, fragment=None)).rstrip("/"),
        model=url.params.get("model") or None,
        characters=int(characters) if characters else None,
    )


def asked_pause(header: str | None, now: datetime) -> float:
    """Return the seconds that a ``Retry-After`` asks for, which is a number of them or a date; else 0."""
    if header is None:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    # Not a number compares as false, too.
    return seconds if seconds > 0 else 0.0


def _message(response: httpx2.Response) -> str:
    """Return what a server says of an error, in one line."""
    try:
        said: Any = response.json()
    except ValueError:
        said = response.text
    while isinstance(said, Mapping):
        said = next((said[name] for name in ("error", "message", "detail") if said.get(name)), "")
    return " ".join(str(said).split())[:_SHOWN] or response.reason_phrase
