"""The errors that udr raises.

    UdrError
    ├── RequestError ── UnknownTaskError, InvalidInputError, TooLongError
    ├── ConfigError
    ├── DataError
    ├── ModelError
    ├── ArtifactError ── VerificationError
    ├── MissingExtraError
    ├── FeedbackError
    └── ServiceError ── OverloadedError, DeadlineError, AccessError

Programming errors (a wrong type or shape) are ``TypeError`` and ``ValueError``. A message is one line: what was asked,
what was found, what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UdrError(Exception):
    """Base of all errors that udr raises; its message can be shown to a user."""


class RequestError(UdrError):
    """A request cannot be answered; other requests are not affected."""


class UnknownTaskError(RequestError):
    """There is no such task, family or demonstration."""


class InvalidInputError(RequestError):
    """A value in the request is missing, unknown, of the wrong type or out of range."""


class TooLongError(RequestError):
    """A text in the request exceeds its limit."""


class ConfigError(UdrError):
    """A setting or an option is invalid, alone or in combination."""


class DataError(UdrError):
    """A task, row or data file is invalid; ``path``, ``line`` (from 1) and ``field`` (a key) tell where, if known."""

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        location = ":".join(str(part) for part in (path, line) if part is not None)
        key = f"field {field!r}" if field is not None else ""
        super().__init__(": ".join(filter(None, (location, key, message))))
        self.path, self.line, self.field = path, line, field


class ModelError(UdrError):
    """A model cannot be found, or its files are not a model of the requested kind."""


class ArtifactError(UdrError):
    """An index or a run is missing, incomplete, or made with another encoder or wording."""


class VerificationError(ArtifactError):
    """A file of an index or a run does not match its manifest."""


class MissingExtraError(UdrError, ImportError):
    """An optional package is not installed; ``extra`` installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; run: pip install 'udr-icl[{extra}]'")
        self.extra = extra


@contextmanager
def optional_import(what: str, extra: str) -> Iterator[None]:
    """Raise ``MissingExtraError`` if an import in the body fails."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(what, extra) from error


class FeedbackError(UdrError):
    """The feedback language model returned no usable scores."""


class ServiceError(UdrError):
    """A call to a service failed, with this HTTP status and problem type (a URN), or None without a response."""

    def __init__(self, message: str, *, status: int | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.status, self.type = status, type


class OverloadedError(ServiceError):
    """The service is overloaded or still loading; retry later."""


class DeadlineError(ServiceError):
    """The deadline expired before the service answered."""


class AccessError(ServiceError):
    """The API key is missing or unknown (401), or lacks the required scope (403)."""


def reason(error: BaseException) -> str:
    """Return the first line of another library's error, or its type's name if it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
