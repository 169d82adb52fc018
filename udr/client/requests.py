"""Calls: the requests that the clients send, each with the reader of its response. This module sends nothing."""

import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from udr.client import responses
from udr.client.problems import Problem
from udr.data import Filter, FilterLike, Task
from udr.errors import InvalidInputError, brief
from udr.prompts import BuildingOptions, Format, Prompt, PromptOptions
from udr.retrieval import (
    DEFAULT_K,
    DefaultK,
    Page,
    Retrieval,
    RetrievalRequest,
    RowLike,
    SelectionOptions,
    check_names,
    deletion,
)
from udr.store.live import ANY, Change, Outcome
from udr.types import Fields, Json, Row, plain_number

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
        headers: other headers than that of a body's type.
    """

    path: str
    read: Callable[[Mapping[str, Any]], Answer]
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> Mapping[str, Any]:
        """The arguments of httpx2's ``request``."""
        if self.content is None:
            return {"method": "GET", "url": self.path}
        headers = {"Content-Type": "application/json", **self.headers}
        return {"method": "POST", "url": self.path, "content": self.content, "headers": headers}


READY: Call[object] = Call("/readyz", dict)
TASKS: Call[Mapping[str, Task]] = Call("/v1/tasks", responses.read_tasks)
INFO: Call[Mapping[str, Json]] = Call("/v1/info", responses.read_info)
MAX_BATCH: Call[int] = Call("/v1/info", responses.read_max_batch)


def retrieve(request: RetrievalRequest) -> Call[Retrieval]:
    """Return the call for one retrieval; ``InvalidInputError`` if the request cannot be encoded as JSON."""
    return Call("/v1/retrieve", responses.reader(Retrieval), _encoded(_body(request)))


def batch(bodies: Sequence[bytes]) -> Call[Sequence[Retrieval | Problem]]:
    """Return the call for several retrievals, from the body of each."""
    read = partial(responses.read_batch, count=len(bodies))
    return Call("/v1/retrieve/batch", read, b'{"requests": [%b]}' % b", ".join(bodies))


def bodies(requests: Sequence[RetrievalRequest]) -> list[bytes]:
    """Return the body of each retrieval.

    Raises:
        InvalidInputError: a request cannot be encoded as JSON; the message gives its position, from 1.
    """
    return [_encoded(_body(request), f"request {n}: ") for n, request in enumerate(requests, start=1)]


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
    """Return the call for a prompt.

    Raises:
        ConfigError: there is no such option.
        InvalidInputError: the request cannot be encoded as JSON.
    """
    check_names(options, PromptOptions)
    building = {name: value for name, value in options.items() if name in BuildingOptions.__annotations__}
    selection = {name: value for name, value in options.items() if name not in building}
    request = RetrievalRequest.of(task, input, k, cast("SelectionOptions", selection))
    keys = {"budget": budget, "reserve": reserve, "format": str(format), "tokenizer": tokenizer, **building}
    return Call("/v1/prompt", responses.read_prompt, _encoded(cast("dict[str, Json]", keys) | _body(request)))


def outcome(prompt_id: str, score: float, target: str | None) -> Call[None]:
    """Return the call that reports a prompt's outcome; ``InvalidInputError`` if it cannot be encoded as JSON."""
    body: dict[str, Json] = {"prompt_id": prompt_id, "score": score, "target": target}
    return Call("/v1/outcomes", responses.read_told, _encoded(body))


def demonstration(task: str, id: str) -> Call[Row]:
    """Return the call for one row; ``InvalidInputError`` if the task or the id cannot be encoded in a URL."""
    return Call(f"/v1/tasks/{_segment(task)}/demonstrations/{_segment(id)}", responses.reader(Row))


def demonstrations(task: str, after: str | None, limit: int, filter: FilterLike | None) -> Call[Page]:
    """Return the call for a page of rows; ``InvalidInputError`` if an argument cannot be encoded in a URL."""
    text = filter if isinstance(filter, str) or filter is None else json.dumps(Filter.of(filter).to_json())
    given = {"after": after, "limit": str(limit), "filter": text}
    query = "&".join(f"{name}={_segment(value)}" for name, value in given.items() if value is not None)
    return Call(f"/v1/tasks/{_segment(task)}/demonstrations?{query}", responses.read_page)


def changes(task: str, body: Mapping[str, Json], *, if_match: str | None, idempotency_key: str | None) -> Call[Outcome]:
    """Return the call for a write. It has a key in any case, so that it is done once if it is sent again."""
    headers = {"Idempotency-Key": uuid.uuid4().hex if idempotency_key is None else idempotency_key}
    if if_match is not None:
        headers["If-Match"] = if_match if if_match == ANY else f'"{if_match}"'
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise InvalidInputError(f"{name} must be printable ASCII, found {brief(value)}")
    return Call(f"/v1/tasks/{_segment(task)}/demonstrations:batch", responses.read_outcome, _encoded(body), headers)


def put_body(rows: RowLike | Sequence[RowLike]) -> dict[str, Json]:
    """Return the body of a write that puts rows."""
    given = [rows] if isinstance(rows, Row | Mapping) else rows
    return {"put": [row.to_json() if isinstance(row, Row) else row for row in given]}


def deletion_body(ids: str | Sequence[str] | None, filter: FilterLike | None) -> dict[str, Json]:
    """Return the body of a write that deletes rows; ``InvalidInputError`` unless either ids or a filter are given."""
    change = deletion(Change(""), ids, filter)
    if isinstance(change.delete, Filter):
        return {"filter": change.delete.to_json()}
    return {"delete": list(change.delete)}


def _body(request: RetrievalRequest) -> dict[str, Json]:
    """Return a request's fields as JSON, without those that have their default."""
    body = {f.name: value for f in fields(request) if (value := _value(getattr(request, f.name))) != f.default}
    if not isinstance(request.k, DefaultK):
        return {**body, "k": request.k}
    if request.k != DEFAULT_K:
        raise InvalidInputError(f"a service has its own default of k; found a DefaultK of {request.k}, give an int")
    return body


def _value(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, Filter):
        return value.to_json()
    if isinstance(value, Mapping):
        return dict(value)
    # A string is a collection too, of letters. It is sent as it is, and the service refuses it.
    return tuple(value) if isinstance(value, Collection) and not isinstance(value, str) else value


def _encoded(body: Mapping[str, Json], label: str = "") -> bytes:
    try:
        given = {key: value for key, value in body.items() if value is not None}
        # Half of a surrogate pair, which UTF-8 lacks, is escaped as JSON does it, so that the service names it.
        return json.dumps(given, allow_nan=False, ensure_ascii=False, default=_number).encode(errors="backslashreplace")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{label}the request cannot be encoded as JSON: {error}") from error


def _number(value: object) -> Json:
    number: Json = plain_number(value)
    if number is value:
        raise TypeError(f"it holds an object of type {type(value).__name__}")
    return number


def _segment(name: str) -> str:
    try:
        # Servers and proxies resolve a path segment of dots.
        return quote(name, safe="").replace(".", "%2E")
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name!r} cannot be encoded in a URL: {error.reason}") from error
