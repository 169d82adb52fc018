"""Logs: one line per request, as JSON or text, and never a query, a key, a header or a body.

Our own records are written whole, except values that are not plain data or whose name is in ``_WITHHELD``. Of other
packages' records only the first line is written, since the rest may quote data. Of exceptions the tracebacks are
written; their messages only if they are about files, not requests.
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

from udr.cli import STATUS
from udr.errors import RequestError, UdrError
from udr.types import Json

_OURS = ("udr", "udr_service")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_WITHHELD = frozenset(
    {"api_key", "authorization", "body", "headers", "input", "inputs", "key", "prompt", "query", "text", "texts"}
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class LogFormat(StrEnum):
    """The format of a log line."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(level: LogLevel, format: LogFormat, stream: TextIO | None = None) -> None:
    """Set up the logs of this process; only commands call this.

    Args:
        level: the level of our packages; others log WARNING and above.
        format: the format of a line.
        stream: where to write; None is stderr.
    """
    handler = _Lines(stream)
    handler.setFormatter(JsonFormatter() if format is LogFormat.JSON else TextFormatter())
    ours = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING), force=True)
    for package in _OURS:
        logging.getLogger(package).setLevel(ours)


class _Lines(logging.Handler):
    """Writes records on lines of their own, even while the command shows on a terminal that it loads.

    Args:
        stream: where to write; None is standard error as it is at that time.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            STATUS.finish()
            stream = self._given or sys.stderr
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, the ``extra`` keys, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; ASCII, so that no character breaks the line or the stream's encoding."""
        fields = _fields(record)
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = exception_text(record.exc_info[1])
        return json.dumps(fields, allow_nan=False)


class TextFormatter(logging.Formatter):
    """A record as one line of text; the lines of an exception follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        fields = _fields(record)
        head = [str(fields.pop(name)) for name in ("time", "level", "logger", "message")]
        lines = [" ".join([*head, *(f"{name}={json.dumps(value)}" for name, value in fields.items())])]
        if record.exc_info and record.exc_info[1]:
            lines += exception_text(record.exc_info[1]).splitlines()
        return "\n    ".join(_printable(line) for line in lines)


def request_id(header: str | None) -> str:
    """Return the id of a request: its ``X-Request-Id`` if that is 1 to 128 of ``A-Za-z0-9._-``, else a new one."""
    return header if header is not None and _REQUEST_ID.fullmatch(header) else uuid.uuid4().hex


def exception_text(error: BaseException) -> str:
    """Return an exception and its causes with their tracebacks, innermost call last.

    Only our errors that are not about a request, and the system's, keep their message: they are about files and
    addresses. Any other may quote a query.
    """
    return "\ncaused by ".join(_traceback(error) for error in _with_causes(error, set()))


def _traceback(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, UdrError | OSError) and not isinstance(error, RequestError):
        name += f": {error}"
    calls = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    return f"{name}\n{calls}" if calls else name


def _with_causes(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _with_causes(part, seen)
    yield from _with_causes(error.__cause__ or (None if error.__suppress_context__ else error.__context__), seen)


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
        # Some packages, as Ray, give every record of the process names of their own, with an underscore.
        if name not in _STANDARD and name not in fields and value is not None and not name.startswith("_"):
            fields[name] = _loggable(name, value)
    return fields


def _loggable(name: str, value: object) -> Json:
    """Return a value as JSON; only the type of what JSON lacks, since the rest may hold anything."""
    if name.lower() in _WITHHELD:
        return "<withheld>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _loggable(str(key), inner) for key, inner in value.items()}
    return [_loggable("", inner) for inner in value] if isinstance(value, list | tuple) else f"<{type(value).__name__}>"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
