"""Problems: what is answered when there is no answer, as RFC 9457 has it.

One table says what each error is to a client. An error that is not in it is our own fault: the client learns
that much and no more, and the log has the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from udr.client import PROBLEM
from udr.errors import DeadlineError, InvalidInputError, OverloadedError, TooLongError, UnknownTaskError
from udr_service.errors import (
    BatchTooLargeError,
    BodyTooLargeError,
    ForbiddenError,
    ForeignHostError,
    KTooLargeError,
    NotReadyError,
    ReloadError,
    UnauthorizedError,
)
from udr_service.schemas import EmbeddingsError, EmbeddingsProblem, Finding, Problem

MEDIA_TYPE = "application/problem+json"

EMBEDDINGS = "/v1/embeddings"
"""The one path whose errors have OpenAI's shape, so that its clients can read them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an error is to a client.

    Attributes:
        status: the HTTP status.
        name: the last part of the problem's type.
        title: what went wrong, the same for every problem of this type.
        later: whether the same request may succeed later.
    """

    status: int
    name: str
    title: str
    later: bool = False


KINDS: Mapping[type[Exception], Kind] = {
    UnknownTaskError: Kind(404, "unknown-task", "No such task, family or demonstration"),
    InvalidInputError: Kind(422, "invalid-input", "Invalid request"),
    TooLongError: Kind(413, "too-long", "Text too long"),
    BatchTooLargeError: Kind(413, "batch-too-large", "Too many requests in one batch"),
    BodyTooLargeError: Kind(413, "body-too-large", "Body too large"),
    KTooLargeError: Kind(422, "k-too-large", "Too many demonstrations asked for"),
    UnauthorizedError: Kind(401, "unauthorized", "No key, or an unknown one"),
    ForbiddenError: Kind(403, "forbidden", "The key may not do this"),
    ForeignHostError: Kind(421, "foreign-host", "Asked by a name that is not this machine's"),
    ReloadError: Kind(409, "reload-refused", "The published version cannot be served"),
    OverloadedError: Kind(429, "overloaded", "The service is full", later=True),
    NotReadyError: Kind(503, "not-ready", "The service is not ready", later=True),
    DeadlineError: Kind(504, "deadline-exceeded", "No answer in the time that was given"),
    Exception: Kind(500, "internal", "Internal error"),
}
"""What each error is to a client; an error that is not here is what the next class above it is."""

MALFORMED = Kind(400, "malformed-json", "The body is not JSON")
NOT_JSON = Kind(415, "not-json", "The body is not declared as JSON")

# Pydantic's own words where they speak of Python, not of JSON.
_SAID = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_unicode": "is not valid Unicode",
}
_RETRY_SECONDS = "1"
_MOST_FINDINGS = 16


def problem_of(error: Exception, instance: str) -> Problem:
    """Return the problem that an error is.

    Args:
        error: any error.
        instance: the path that was asked, or a part of its body.
    """
    kind = next(KINDS[kind] for kind in type(error).__mro__ if kind in KINDS)
    return _problem(kind, _detail(kind, error), instance)


def schema_problem(errors: Sequence[Mapping[str, Any]], body: object, instance: str, within: str = "") -> Problem:
    """Return the problem that a body which does not fit its schema is.

    Args:
        errors: as pydantic lists them.
        body: what was checked.
        instance: the path that was asked, or a part of its body.
        within: the JSON pointer of what was checked, where that is a part of the body.
    """
    findings = [
        Finding(pointer=within + _pointer(error, body), detail=_said(error)) for error in errors[:_MOST_FINDINGS]
    ]
    first = findings[0]
    # In one line, whatever a key is made of.
    detail = f"{repr(first.pointer)[1:-1] or 'the body'}: {first.detail}"
    return _problem(KINDS[InvalidInputError], detail, instance, findings)


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem; what is not one of ours is left to the recorder."""
    app.add_exception_handler(RequestValidationError, _on_schema_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    for error in KINDS:
        if error is not Exception:
            app.add_exception_handler(error, _on_error)


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the HTTP answer that carries a problem."""
    later = any(kind.later and kind.status == problem.status for kind in KINDS.values())
    more = {"Retry-After": _RETRY_SECONDS} if later else {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = "Bearer"
    more |= headers or {}
    if problem.instance == EMBEDDINGS:
        name = problem.type.removeprefix(PROBLEM)
        said = EmbeddingsProblem(message=problem.detail, type=name.replace("-", "_"), code=name)
        shape = EmbeddingsError(error=said).model_dump()
        return JSONResponse(shape, status_code=problem.status, headers=more)
    return JSONResponse(problem.model_dump(), status_code=problem.status, headers=more, media_type=MEDIA_TYPE)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return answer(problem_of(error, request.url.path))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    error = cast("HTTPException", error)
    status = HTTPStatus(error.status_code)
    kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
    problem = _problem(kind, f"{request.method} {request.url.path}: {error.detail}", request.url.path)
    return answer(problem, error.headers)


async def _on_schema_error(request: Request, error: Exception) -> JSONResponse:
    error = cast("RequestValidationError", error)
    path, first = request.url.path, error.errors()[0]
    if first["type"] == "json_invalid":
        detail = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return answer(_problem(MALFORMED, detail, path))
    if isinstance(error.body, bytes):
        return answer(_problem(NOT_JSON, "send the body with the header Content-Type: application/json", path))
    # FastAPI puts the part of the request first; of ours, only the body has a schema that can be missed.
    errors = [{**one, "loc": one["loc"][1:]} for one in error.errors()]
    return answer(schema_problem(errors, error.body, path))


def _problem(kind: Kind, detail: str, instance: str, findings: Sequence[Finding] = ()) -> Problem:
    return Problem(
        type=f"{PROBLEM}{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=instance,
        errors=list(findings),
    )


def _detail(kind: Kind, error: Exception) -> str:
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "the service failed at this request; its log says why"
    return error.detail if isinstance(error, HTTPException) else str(error)


def _pointer(error: Mapping[str, Any], body: object) -> str:
    """Return the JSON pointer of what an error is about.

    Pydantic names the member of a union that it tried among the keys; what is no key of the body is left out.
    """
    parts: list[str] = []
    for place in error["loc"]:
        if isinstance(body, dict) and (place in body or error["type"] == "missing"):
            body = body.get(place)
        elif isinstance(body, list) and isinstance(place, int) and place < len(body):
            body = body[place]
        else:
            continue
        parts.append(str(place).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def _said(error: Mapping[str, Any]) -> str:
    return _SAID.get(error["type"], str(error["msg"]).replace("Input should be", "must be"))
