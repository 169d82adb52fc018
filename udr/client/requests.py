"""Calls: what the clients ask a service, each with the reader of its answer. Nothing here is sent."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from udr.client.problems import Problem
from udr.client.responses import (
    read_batch,
    read_info,
    read_max_batch,
    read_prompt,
    read_retrieval,
    read_row,
    read_tasks,
)
from udr.data import Task
from udr.errors import InvalidInputError
from udr.prompts import BuildingOptions, Format, Prompt, PromptOptions
from udr.retrieval import Retrieval, RetrievalRequest, SelectionOptions
from udr.types import Fields, Json, Row

SURE_BATCH = 64
"""The most requests that are sent in one batch before the service was asked for its limit."""

TIMEOUT = "X-Udr-Timeout"
"""The header that says for how many seconds the client waits, so that no work is done that nobody waits for."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One question to a service.

    Attributes:
        path: below the service's URL.
        read: makes the typed answer of the JSON object that came; raises KeyError, TypeError, ValueError,
            AttributeError or DataError for what no udr service says.
        content: the body, JSON; None where there is none.
    """

    path: str
    read: Callable[[Mapping[str, Any]], Answer]
    content: bytes | None = None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.content is None else "POST"

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that are this call's own."""
        return {} if self.content is None else {"Content-Type": "application/json"}


READY: Call[object] = Call("/readyz", dict)
TASKS: Call[Mapping[str, Task]] = Call("/v1/tasks", read_tasks)
INFO: Call[Mapping[str, Json]] = Call("/v1/info", read_info)
MAX_BATCH: Call[int] = Call("/v1/info", read_max_batch)


def retrieve(request: RetrievalRequest) -> Call[Retrieval]:
    """Return the call that asks for one retrieval.

    Raises:
        InvalidInputError: JSON cannot say the request.
    """
    return Call("/v1/retrieve", read_retrieval, _encoded(_asked(request)))


def batches(requests: Sequence[RetrievalRequest], limit: int) -> Iterator[Call[Sequence[Retrieval | Problem]]]:
    """Return the calls that ask for several retrievals, in order, each with at most ``limit`` of the requests.

    Raises:
        InvalidInputError: JSON cannot say a request; the message gives its place, from 1.
    """
    bodies = [_request(request, place) for place, request in enumerate(requests, start=1)]
    pieces = [bodies[start : start + limit] for start in range(0, len(bodies), limit)]
    return (
        Call("/v1/retrieve/batch", partial(read_batch, count=len(piece)), b'{"requests": [%b]}' % b", ".join(piece))
        for piece in pieces
    )


def prompt(
    task: str,
    input: Fields | str,
    k: int,
    options: PromptOptions,
    *,
    budget: int,
    reserve: int,
    format: Format | str,
) -> Call[Prompt]:
    """Return the call that asks for a prompt.

    Raises:
        InvalidInputError: JSON cannot say the request.
    """
    building = {name: value for name, value in options.items() if name in BuildingOptions.__annotations__}
    selection = {name: value for name, value in options.items() if name not in building}
    request = RetrievalRequest.of(task, input, k, cast("SelectionOptions", selection))
    keys = {"budget": budget, "reserve": reserve, "format": str(format), **building}
    return Call("/v1/prompt", read_prompt, _encoded(cast("dict[str, Json]", keys) | _asked(request)))


def demonstration(task: str, id: str) -> Call[Row]:
    """Return the call that asks for one row.

    Raises:
        InvalidInputError: a URL cannot say the task or the id.
    """
    return Call(f"/v1/tasks/{_segment(task)}/demonstrations/{_segment(id)}", read_row)


def _request(request: RetrievalRequest, place: int) -> bytes:
    try:
        return _encoded(_asked(request))
    except InvalidInputError as error:
        raise InvalidInputError(f"request {place}: {error}") from error


def _asked(request: RetrievalRequest) -> dict[str, Json]:
    """Return what a request says; what it leaves as it is by default is left out."""
    said = {field.name: getattr(request, field.name) for field in fields(request)}
    asked = {field.name: said[field.name] for field in fields(request) if said[field.name] != field.default}
    if isinstance(request.input, Mapping):
        asked["input"] = dict(request.input)
    # A text is a sequence, too: of letters. As it is, the service refuses it.
    if isinstance(request.exclude, Collection) and not isinstance(request.exclude, str):
        asked["exclude"] = list(request.exclude)
    return {**asked, "k": request.k}


def _encoded(body: Mapping[str, Json]) -> bytes:
    try:
        return json.dumps({key: value for key, value in body.items() if value is not None}, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the request cannot be said in JSON: {error}") from error


def _segment(name: str) -> str:
    try:
        # Whatever reads a path takes a segment of dots for a step up.
        return quote(name, safe="").replace(".", "%2E")
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name!r} cannot be said in a URL: {error.reason}") from error
