"""The client of a udr service. The one file that imports httpx2."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from udr import __version__
from udr.answers import read_info, read_prompt, read_retrieval, read_tasks
from udr.errors import (
    ConfigError,
    DataError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
    TooLongError,
    UdrError,
    UnknownTaskError,
)
from udr.prompt import Format, Prompt
from udr.tasks import Task
from udr.types import Fields, Json, Mode, Retrieval

PROBLEM = "urn:udr:problem:"
"""What the type of every problem of the service begins with."""

PROBLEM_ERRORS: Mapping[str, type[UdrError]] = {
    f"{PROBLEM}unknown-task": UnknownTaskError,
    f"{PROBLEM}invalid-input": InvalidInputError,
    f"{PROBLEM}too-long": TooLongError,
}
"""What a problem's type is raised as; every other is a ``ServiceError``."""

_LATER = (429, 503)
# Seconds before the first retry when the service names none; doubled each time.
_PAUSE = 0.5

_Answer = TypeVar("_Answer")


class Client:
    """Speaks to a service as ``Retriever`` speaks to an index; may be shared between threads.

    Use it in a ``with`` block, or close it: it keeps its connections open from request to request.

    Args:
        url: where the service is, such as ``http://127.0.0.1:8000``.
        timeout: seconds to wait for a connection or for an answer, and the longest pause before a retry.
        retries: how often a request is sent again when the service is full or still loading.
        transport: an httpx2 transport to use in place of the network.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(
        self, url: str, *, timeout: float = 10.0, retries: int = 2, transport: httpx2.BaseTransport | None = None
    ) -> None:
        _check(url)
        self.url = url.rstrip("/")
        self._timeout, self._retries = timeout, retries
        headers = {"User-Agent": f"udr/{__version__}", "Accept": "application/json, application/problem+json"}
        self._http = httpx2.Client(base_url=self.url, timeout=timeout, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client is of no use after that."""
        self._http.close()

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        *,
        family: str | None = None,
        scope: str | None = None,
        exclude: Sequence[str] = (),
        min_similarity: float | None = None,
        mode: Mode = "dense",
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input; see ``udr.types.RetrievalRequest``.

        Raises:
            UnknownTaskError: the task or family is not served.
            InvalidInputError: the input does not fit the task, or k is out of range.
            TooLongError: the input is longer than the service takes.
            OverloadedError: the service was full or loading, each time it was asked.
            ServiceError: there is no service, or it did not answer as one.
        """
        body: dict[str, Json] = {
            "task": task,
            "family": family,
            "scope": scope,
            **_query(input, k, exclude, min_similarity, mode),
        }
        return self._ask(read_retrieval, "POST", "/v1/retrieve", body)

    def prompt(
        self,
        task: str,
        input: Fields | str,
        *,
        k: int = 8,
        budget: int,
        reserve: int = 0,
        format: Format | str = Format.TEXT,
        exclude: Sequence[str] = (),
        min_similarity: float | None = None,
        mode: Mode = "dense",
    ) -> Prompt:
        """Return a prompt with those of the k nearest demonstrations that fit; see ``udr.prompt.PromptBuilder``.

        Args:
            task: the task that the input belongs to.
            input: the fields by name; plain text where the task has one field.
            k: how many demonstrations to choose from.
            budget: tokens of prompt and answer together, as the service's encoder counts tokens.
            reserve: tokens of the budget that are kept for the answer.
            format: ``text`` or ``messages``.
            exclude: ids that must not be shown.
            min_similarity: leave out what is less similar than this.
            mode: what ranks: ``dense``, ``bm25`` or ``hybrid``.

        Raises:
            TooLongError: the prompt does not fit, even without demonstrations.
            UdrError: as ``retrieve``.
        """
        body: dict[str, Json] = {
            "task": task,
            "budget": budget,
            "reserve": reserve,
            "format": str(format),
            **_query(input, k, exclude, min_similarity, mode),
        }
        return self._ask(read_prompt, "POST", "/v1/prompt", body)

    def tasks(self) -> Mapping[str, Task]:
        """Return the tasks that are served, by name.

        Raises:
            ServiceError: as ``retrieve``.
        """
        return self._ask(read_tasks, "GET", "/v1/tasks")

    def info(self) -> Mapping[str, Json]:
        """Return what ``/v1/info`` says: versions, model, limits, and how many demonstrations each task has.

        Raises:
            ServiceError: as ``retrieve``.
        """
        return self._ask(read_info, "GET", "/v1/info")

    def ready(self) -> bool:
        """Say whether the service is there and answers; asks once."""
        try:
            return self._http.get("/readyz").status_code == httpx2.codes.OK
        except httpx2.RequestError:
            return False

    def _ask(
        self,
        read: Callable[[Mapping[str, Any]], _Answer],
        method: str,
        path: str,
        body: Mapping[str, Json] | None = None,
    ) -> _Answer:
        response = self._send(method, path, None if body is None else _encoded(body))
        answer = _object(response)
        if not response.is_success:
            raise self._error(response, answer)
        try:
            return read(answer)
        except (KeyError, TypeError, AttributeError, DataError) as error:
            raise ServiceError(
                f"{self.url}: the answer to {path} is not a udr service's; check the URL", status=response.status_code
            ) from error

    def _send(self, method: str, path: str, content: bytes | None) -> httpx2.Response:
        """Send a request, and again while the service asks to come back later and retries are left."""
        headers = {"Content-Type": "application/json"} if content is not None else None
        for attempt in range(self._retries + 1):
            try:
                response = self._http.request(method, path, content=content, headers=headers)
            except httpx2.TimeoutException as error:
                raise ServiceError(f"{self.url}: no answer within {self._timeout:g} seconds") from error
            except httpx2.RequestError as error:
                raise ServiceError(f"{self.url}: cannot be reached ({error}); is the service running there?") from error
            pause = _pause(response, attempt)
            if response.status_code not in _LATER or attempt == self._retries or pause > self._timeout:
                break
            time.sleep(pause)
        return response

    def _error(self, response: httpx2.Response, problem: Mapping[str, Any]) -> UdrError:
        type, detail = str(problem.get("type")), problem.get("detail") or response.reason_phrase
        if type in PROBLEM_ERRORS:
            return PROBLEM_ERRORS[type](str(detail))
        kind = OverloadedError if response.status_code in _LATER else ServiceError
        return kind(
            f"{self.url}: {detail} (HTTP {response.status_code})", status=response.status_code, type=problem.get("type")
        )


def _check(url: str) -> None:
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise ConfigError(f"the service's URL must be like http://127.0.0.1:8000, found {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"the service's URL must be like http://127.0.0.1:8000, found {url!r}")


def _query(
    input: Fields | str | None, k: int, exclude: Sequence[str], min_similarity: float | None, mode: Mode
) -> dict[str, Json]:
    # A text is a sequence, too: of letters. As it is, the service refuses it.
    ids = exclude if isinstance(exclude, str) else list(exclude)
    return {
        "input": input,
        "k": k,
        "exclude": ids,
        "min_similarity": min_similarity,
        "mode": mode if mode != "dense" else None,
    }


def _encoded(body: Mapping[str, Json]) -> bytes:
    try:
        return json.dumps({key: value for key, value in body.items() if value is not None}, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the request cannot be said in JSON: {error}") from error


def _object(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the JSON object that was answered; an empty one where it was something else."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _pause(response: httpx2.Response, attempt: int) -> float:
    """Return the seconds to wait before the next attempt."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else _PAUSE * 2**attempt
