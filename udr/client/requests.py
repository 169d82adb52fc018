"""Calls: the requests that the clients send, each with the reader of its response. This module sends nothing."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from udr.client import responses
from udr.client.problems import Problem
from udr.data import Filter, Task
from udr.errors import InvalidInputError
from udr.prompts import BuildingOptions, Format, Prompt, PromptOptions
from udr.retrieval import DefaultK, Retrieval, RetrievalRequest, SelectionOptions
from udr.types import Fields, Json, Row

SAFE_BATCH = 64
"""The most requests sent in one batch without first asking the service for its limit."""

TIMEOUT = "X-Udr-Timeout"
"""The header with the client's timeout in seconds, so that the service can drop expired work."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request to a service.

    Attributes:
        path: relative to the service's URL.
        read: turns the JSON object of the response into the answer; see ``udr.client.responses`` for its errors.
        content: the body, JSON; None for a GET.
    """

    path: str
    read: Callable[[Mapping[str, Any]], Answer]
    content: bytes | None = None

    @property
    def request(self) -> Mapping[str, Any]:
        """The arguments of httpx2's ``request``."""
        if self.content is None:
            return {"method": "GET", "url": self.path}
        headers = {"Content-Type": "application/json"}
        return {"method": "POST", "url": self.path, "content": self.content, "headers": headers}


READY: Call[object] = Call("/readyz", dict)
TASKS: Call[Mapping[str, Task]] = Call("/v1/tasks", responses.read_tasks)
INFO: Call[Mapping[str, Json]] = Call("/v1/info", responses.read_info)
MAX_BATCH: Call[int] = Call("/v1/info", responses.read_max_batch)


def retrieve(request: RetrievalRequest) -> Call[Retrieval]:
    """Return the call for one retrieval; ``InvalidInputError`` if the request cannot be encoded as JSON."""
    return Call("/v1/retrieve", responses.reader(Retrieval), _encoded(_body(request)))


def batches(requests: Sequence[RetrievalRequest], limit: int) -> Iterator[Call[Sequence[Retrieval | Problem]]]:
    """Return the calls for several retrievals, in order, each of at most ``limit`` requests.

    Raises:
        InvalidInputError: a request cannot be encoded as JSON; the message gives its position, from 1.
    """
    bodies = [_encoded(_body(request), f"request {n}: ") for n, request in enumerate(requests, start=1)]
    for start in range(0, len(bodies), limit):
        batch = bodies[start : start + limit]
        read = partial(responses.read_batch, count=len(batch))
        yield Call("/v1/retrieve/batch", read, b'{"requests": [%b]}' % b", ".join(batch))


def prompt(
    task: str,
    input: Fields | str,
    k: int,
    options: PromptOptions,
    *,
    budget: int,
    reserve: int,
    format: Format | str,
    tokenizer: str | None = None,
) -> Call[Prompt]:
    """Return the call for a prompt; ``InvalidInputError`` if the request cannot be encoded as JSON."""
    building = {name: value for name, value in options.items() if name in BuildingOptions.__annotations__}
    selection = {name: value for name, value in options.items() if name not in building}
    request = RetrievalRequest.of(task, input, k, cast("SelectionOptions", selection))
    keys = {"budget": budget, "reserve": reserve, "format": str(format), "tokenizer": tokenizer, **building}
    return Call("/v1/prompt", responses.read_prompt, _encoded(cast("dict[str, Json]", keys) | _body(request)))


def demonstration(task: str, id: str) -> Call[Row]:
    """Return the call for one row; ``InvalidInputError`` if the task or the id cannot be encoded in a URL."""
    return Call(f"/v1/tasks/{_segment(task)}/demonstrations/{_segment(id)}", responses.reader(Row))


def _body(request: RetrievalRequest) -> dict[str, Json]:
    """Return a request's fields as JSON, without those that have their default."""
    body = {f.name: value for f in fields(request) if (value := getattr(request, f.name)) != f.default}
    if isinstance(request.input, Mapping):
        body["input"] = dict(request.input)
    # A string is a collection too, of letters. It is sent as it is, and the service refuses it.
    if isinstance(request.exclude, Collection) and not isinstance(request.exclude, str):
        body["exclude"] = list(request.exclude)
    if isinstance(request.filter, Filter):
        body["filter"] = request.filter.to_json()
    return body if isinstance(request.k, DefaultK) else {**body, "k": request.k}


def _encoded(body: Mapping[str, Json], label: str = "") -> bytes:
    try:
        return json.dumps({key: value for key, value in body.items() if value is not None}, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{label}the request cannot be encoded as JSON: {error}") from error


def _segment(name: str) -> str:
    try:
        # Servers and proxies resolve a path segment of dots.
        return quote(name, safe="").replace(".", "%2E")
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name!r} cannot be encoded in a URL: {error.reason}") from error
