"""Problems: error responses, as RFC 9457 defines them.

One table maps errors to statuses. Any other error is a fault of the service: the client learns only that, and the
details are in the log.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from udr.client import PROBLEM
from udr.errors import (
    ConflictError,
    DeadlineError,
    InvalidInputError,
    NotWriterError,
    OverloadedError,
    ShardsError,
    StorageError,
    TooLongError,
    UnknownPromptError,
    UnknownTaskError,
)
from udr_service.auth import GATEWAY
from udr_service.errors import (
    AmbiguousHostError,
    BatchTooLargeError,
    BodyTooLargeError,
    BusyError,
    ClientLimitError,
    ContentError,
    CostError,
    CrossSiteError,
    ForbiddenError,
    ForeignHostError,
    HeadTooLargeError,
    IndexDamagedError,
    KTooLargeError,
    MalformedRequestError,
    NotReadyError,
    ReloadError,
    SlowRequestError,
    TooManyValuesError,
    UnauthorizedError,
    UpstreamError,
    UpstreamTimeoutError,
    VersionMismatchError,
)
from udr_service.schemas import EmbeddingsError, EmbeddingsProblem, Finding, Problem

MEDIA_TYPE = "application/problem+json"

EMBEDDINGS, MODELS = "/v1/embeddings", "/v1/models"
"""The paths whose answers and errors have OpenAI's shape."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How an error is reported: HTTP status, last part of the type, title, and whether a retry may succeed."""

    status: int
    name: str
    title: str
    later: bool = False


KINDS: Mapping[type[Exception], Kind] = {
    UnknownTaskError: Kind(404, "unknown-task", "No such task, family or demonstration"),
    UnknownPromptError: Kind(404, "unknown-prompt", "No such prompt"),
    InvalidInputError: Kind(422, "invalid-input", "Invalid request"),
    ConflictError: Kind(412, "row-changed", "The row has another version"),
    NotWriterError: Kind(409, "not-writer", "Another process writes to this index"),
    StorageError: Kind(507, "storage", "The write could not be stored"),
    TooLongError: Kind(413, "too-long", "Text too long"),
    BatchTooLargeError: Kind(413, "batch-too-large", "Too many requests in one batch"),
    BodyTooLargeError: Kind(413, "body-too-large", "Body too large"),
    KTooLargeError: Kind(422, "k-too-large", "Too many demonstrations requested"),
    TooManyValuesError: Kind(413, "too-many-values", "Too many values in the body"),
    CostError: Kind(413, "too-costly", "Too costly for the queue"),
    UnauthorizedError: Kind(401, "unauthorized", "No valid API key"),
    ForbiddenError: Kind(403, "forbidden", "The API key does not allow this"),
    ContentError: Kind(415, "unsupported-content", "The body's encoding is not supported"),
    VersionMismatchError: Kind(412, "version-mismatch", "Another index version answers"),
    CrossSiteError: Kind(403, "cross-site", "A page of another site sent this"),
    AmbiguousHostError: Kind(400, "ambiguous-host", "More than one host"),
    ForeignHostError: Kind(421, "foreign-host", "The host name is not this machine's"),
    ReloadError: Kind(409, "reload-refused", "The published version cannot be served"),
    OverloadedError: Kind(429, "overloaded", "The service is overloaded", later=True),
    ClientLimitError: Kind(429, "client-limit", "The client is above its limit", later=True),
    BusyError: Kind(503, "busy", "The service is busy", later=True),
    SlowRequestError: Kind(408, "slow-request", "The request took too long to arrive"),
    HeadTooLargeError: Kind(431, "head-too-large", "Request line and headers too large"),
    MalformedRequestError: Kind(400, "malformed-request", "Not an HTTP request"),
    NotReadyError: Kind(503, "not-ready", "The service is not ready", later=True),
    IndexDamagedError: Kind(503, "index-damaged", "The index is damaged", later=True),
    DeadlineError: Kind(504, "deadline-exceeded", "Deadline exceeded"),
    ShardsError: Kind(503, "shards-missing", "Shards did not answer", later=True),
    UpstreamError: Kind(502, "upstream-failed", "The upstream did not answer", later=True),
    UpstreamTimeoutError: Kind(504, "upstream-timeout", "The upstream took too long"),
    Exception: Kind(500, "internal", "Internal error"),
}
"""How each error is reported; an error that is missing here is reported like its nearest base class."""

MALFORMED = Kind(400, "malformed-json", "The body is not JSON")
NOT_JSON = Kind(415, "not-json", "The body is not declared as JSON")

# These replace pydantic's messages about Python.
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_unicode": "is not valid Unicode",
}
_RETRY_SECONDS = "1"
_MOST_CHARACTERS, _MOST_KEY_CHARACTERS = 1000, 80


def problem_of(error: Exception, instance: str) -> Problem:
    """Return the problem that reports an error; ``instance`` is the requested path, or a part of its body."""
    kind = next(KINDS[kind] for kind in type(error).__mro__ if kind in KINDS)
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _problem(kind, "the service failed on this request; see its log", instance)
    if isinstance(error, ShardsError):
        # What else it says are addresses of the operator's network, and what to do there.
        return _problem(kind, f"{error.summary}; the service's log says why", instance)
    return _problem(kind, error.detail if isinstance(error, HTTPException) else str(error), instance)


def schema_problem(errors: Sequence[Mapping[str, Any]], body: object, instance: str, within: str = "") -> Problem:
    """Return the problem that reports pydantic's errors about a body, or the part of a body at ``within``."""
    findings = [Finding(pointer=within + _pointer(error, body), detail=_message(error)) for error in errors]
    first = findings[0]
    # Escaped, so that no key breaks the line.
    detail = f"{repr(first.pointer)[1:-1] or 'the body'}: {first.detail}"
    return _problem(KINDS[InvalidInputError], detail, instance, findings)


def install(app: FastAPI) -> None:
    """Make the app answer errors with problems; the recorder reports those that are not in the table."""
    app.add_exception_handler(RequestValidationError, _on_schema_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    for error in KINDS:
        if error is not Exception:
            app.add_exception_handler(error, _on_error)


def _answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the HTTP response that carries a problem."""
    headers = dict(headers or {})
    if any(kind.later and kind.status == problem.status for kind in KINDS.values()):
        headers.setdefault("Retry-After", _RETRY_SECONDS)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", "Bearer")
    if problem.instance.startswith((EMBEDDINGS, MODELS, GATEWAY)):
        name = problem.type.removeprefix(PROBLEM)
        details = EmbeddingsProblem(message=problem.detail, type=name.replace("-", "_"), code=name)
        return JSONResponse(EmbeddingsError(error=details).model_dump(), problem.status, headers)
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def answer_to(error: Exception, instance: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the HTTP response that reports an error; ``instance`` as for ``problem_of``."""
    later = {"Retry-After": str(error.seconds)} if isinstance(error, ClientLimitError) else {}
    return _answer(problem_of(error, instance), {**later, **(headers or {})})


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return answer_to(error, request.url.path)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    error = cast("HTTPException", error)
    status = HTTPStatus(error.status_code)
    kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
    problem = _problem(kind, f"{request.method} {request.url.path}: {error.detail}", request.url.path)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return _answer(problem, headers)


async def _on_schema_error(request: Request, error: Exception) -> JSONResponse:
    error = cast("RequestValidationError", error)
    path, first = request.url.path, error.errors()[0]
    if first["type"] == "json_invalid":
        detail = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return _answer(_problem(MALFORMED, detail, path))
    if isinstance(error.body, bytes):
        return _answer(_problem(NOT_JSON, "send the body with the header Content-Type: application/json", path))
    if first["loc"][0] != "body":
        return _answer(_problem(KINDS[InvalidInputError], f"{first['loc'][-1]}: {_message(first)}", path))
    errors = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
    return _answer(schema_problem(errors, error.body, path))


def _problem(kind: Kind, detail: str, instance: str, findings: Sequence[Finding] = ()) -> Problem:
    return Problem(
        type=f"{PROBLEM}{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=_short(detail, _MOST_CHARACTERS),
        instance=_short(instance, _MOST_CHARACTERS),
        errors=list(findings),
    )


def _pointer(error: Mapping[str, Any], body: object) -> str:
    """Return the JSON pointer of an error, without the union members that pydantic names among the keys."""
    parts: list[str] = []
    for key in error["loc"]:
        if isinstance(body, dict) and (key in body or error["type"] == "missing"):
            body = body.get(key)
        elif isinstance(body, list) and isinstance(key, int) and key < len(body):
            body = body[key]
        else:
            continue
        parts.append(_short(str(key), _MOST_KEY_CHARACTERS).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def _short(text: str, most: int) -> str:
    """Return a text of at most about ``most`` characters: nothing that a client sent is echoed at length."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _message(error: Mapping[str, Any]) -> str:
    message = re.sub(r"^(Input|List|Dictionary) should", "must", str(error["msg"]))
    return _MESSAGES.get(error["type"], message.replace(" after validation, not ", "; found "))
