"""Logs: one line for each request, as JSON or for people, and never a text, a key, a header or a body.

Of our own records all is written, but values that are no plain data, and those whose name says that they must not be.
Of other packages' records only the first line is: what follows may show what they worked on. Of exceptions the places
are, and their messages only where these are known to speak of files, not of requests.
"""

import json
import logging
import math
import re
import sys
import traceback
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

from udr.errors import RequestError, UdrError
from udr.types import Json

_OURS = ("udr", "udr_service")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_WITHHELD = frozenset(
    {"api_key", "authorization", "body", "headers", "input", "inputs", "key", "prompt", "query", "text", "texts"}
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_requests = logging.getLogger("udr_service.requests")


class LogFormat(StrEnum):
    """What a line looks like."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """What is written: this and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> None:
    """Write the logs of this process, in one way for all; to be called by a command, and by nothing else.

    Args:
        level: of our own packages; others are never written below WARNING.
        format: of a line.
        stream: where to; None takes stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    ours = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING), force=True)
    for package in _OURS:
        logging.getLogger(package).setLevel(ours)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line: time, level, logger, message, what was given as ``extra``, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = _fields(record)
        if error := _error(record):
            fields["exception"] = exception_text(error)
        # In ASCII, so that no character ends the line or fails at the stream, whatever reads or writes it.
        return json.dumps(fields, allow_nan=False)


class TextFormatter(logging.Formatter):
    """A record as one line for people; the lines of an exception follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        fields = _fields(record)
        head = [str(fields.pop(name)) for name in ("time", "level", "logger", "message")]
        line = " ".join([*head, *(f"{name}={json.dumps(value)}" for name, value in fields.items())])
        error = _error(record)
        below = exception_text(error).splitlines() if error else []
        return "\n    ".join(_printable(part) for part in (line, *below))


def request_line(
    *,
    request_id: str,
    method: str,
    route: str | None,
    status: int,
    duration_ms: float,
    stages_ms: Mapping[str, float],
    queue_size: int | None = None,
    batch_size: int | None = None,
    index_version: str | None = None,
    key_name: str | None = None,
) -> None:
    """Log a request that was answered.

    Args:
        request_id: see ``request_id``.
        method: of HTTP; any that is not known is written as ``other``.
        route: the template of its path, as the path itself may hold anything; None where no route took it.
        status: of the answer.
        duration_ms: milliseconds from the first byte to the last.
        stages_ms: milliseconds by stage.
        queue_size: texts that waited when it came.
        batch_size: texts that were encoded with it, itself included.
        index_version: of the index that answered.
        key_name: the name of the key that it presented, never the key.
    """
    extra = {
        "request_id": request_id,
        "method": method if method in _METHODS else "other",
        "route": route,
        "status": status,
        "duration_ms": round(duration_ms, 3),
        "stages_ms": {stage: round(taken, 3) for stage, taken in stages_ms.items()},
        "queue_size": queue_size,
        "batch_size": batch_size,
        "index_version": index_version,
        "key_name": key_name,
    }
    _requests.info("request", extra=extra)


def request_id(header: str | None) -> str:
    """Return the id of a request: the client's own where it is fit to be shown, else a new one.

    Args:
        header: what the client sent as ``X-Request-Id``; 1 to 128 letters, digits, '.', '_' and '-' are fit.
    """
    return header if header is not None and _REQUEST_ID.fullmatch(header) else uuid.uuid4().hex


def exception_text(error: BaseException) -> str:
    """Return an exception, its causes and where each was raised, innermost call last.

    A message is there only for errors of ours that are not about a request, and for the system's: those speak of files
    and addresses. Any other may quote what was being worked on.
    """
    return "\ncaused by ".join(_placed(one) for one in _with_causes(error, set()))


def _placed(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    tells = isinstance(error, UdrError | OSError) and not isinstance(error, RequestError)
    places = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    return "\n".join(part for part in (f"{name}: {error}" if tells else name, places) if part)


def _with_causes(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _with_causes(part, seen)
    yield from _with_causes(error.__cause__ or (None if error.__suppress_context__ else error.__context__), seen)


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _fields(record: logging.LogRecord) -> dict[str, Json]:
    ours = record.name.partition(".")[0] in _OURS
    message = record.getMessage()
    fields: dict[str, Json] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message if ours else message.partition("\n")[0],
    }
    for name, value in vars(record).items() if ours else ():
        if name not in _STANDARD and name not in fields and value is not None:
            fields[name] = _kept(name, value)
    return fields


def _kept(name: str, value: object) -> Json:
    return "<withheld>" if name.lower() in _WITHHELD else _plain(value)


def _plain(value: object) -> Json:
    """Return a value as JSON has it; of what JSON has not, no more than the kind, as the rest may hold anything."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _kept(str(name), one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else f"<{type(value).__name__}>"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
