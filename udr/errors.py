"""Every error that udr raises on purpose.

    UdrError
    ├── RequestError              one request asked for something that cannot be had
    │   ├── UnknownTaskError        no such task, family or demonstration
    │   ├── InvalidInputError       a field is missing or unknown, k is out of range, ...
    │   └── TooLongError            a text is over its limit
    ├── ConfigError               a setting or a flag makes no sense
    ├── DataError                 a task, row or file that people wrote is wrong: file, line, field
    ├── ModelError                a model's name leads nowhere, or its files do not fit
    ├── ArtifactError             an index or a run is missing, incomplete or made by other means
    │   └── VerificationError       a file is not what its manifest says
    ├── MissingExtraError         a package that an optional part needs is not installed
    ├── FeedbackError             the feedback language model gave no usable numbers
    └── ServiceError              what the client heard from a service, or did not hear
        ├── OverloadedError         the service is full; try again later
        ├── DeadlineError           no answer came in the time that was given
        └── AccessError             the service wants an API key, or one that may do more

Mistakes in a program (a wrong type, a shape that does not fit) stay ``TypeError`` and ``ValueError``.
A message is one line: what was asked, what was found, what to do.
"""

from pathlib import Path


class UdrError(Exception):
    """Base of every error that udr raises on purpose; its text is fit to be shown to a user."""


class RequestError(UdrError):
    """One request asked for something that cannot be had; others are not affected."""


class UnknownTaskError(RequestError):
    """No such task, family or demonstration is served."""


class InvalidInputError(RequestError):
    """A value in the request is missing, unknown, of the wrong kind or out of range."""


class TooLongError(RequestError):
    """A text in the request is longer than the limit that is in force."""


class ConfigError(UdrError):
    """A setting or a flag makes no sense, alone or beside another."""


class DataError(UdrError):
    """A task, row or file that people wrote is wrong.

    Attributes:
        path: the file, or None where there is none.
        line: the line in it, counted from 1, or None.
        field: the field or key, or None.
    """

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        place = ":".join(str(part) for part in (path, line) if part is not None)
        named = f"field {field!r}: {message}" if field is not None else message
        super().__init__(f"{place}: {named}" if place else named)
        self.path, self.line, self.field = path, line, field


class ModelError(UdrError):
    """A model's name leads nowhere, or its files do not make a model of the kind asked for."""


class ArtifactError(UdrError):
    """An index or a run is missing, incomplete, or was made by another encoder or wording."""


class VerificationError(ArtifactError):
    """A file of an index or a run is not what the manifest says it is."""


class MissingExtraError(UdrError, ImportError):
    """A package that an optional part of udr needs is not installed.

    Attributes:
        extra: the name of the extra that installs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; run: pip install 'udr-icl[{extra}]'")
        self.extra = extra


class FeedbackError(UdrError):
    """The feedback language model gave no usable numbers."""


class ServiceError(UdrError):
    """What the client heard from a service, or did not hear.

    Attributes:
        status: the HTTP status, or None when no answer came.
        type: the problem's type (a URN), or None.
    """

    def __init__(self, message: str, *, status: int | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.status, self.type = status, type


class OverloadedError(ServiceError):
    """The service is full or still loading; the same request may succeed later."""


class DeadlineError(ServiceError):
    """No answer came in the time that was given: the service gave up, or the client stopped waiting."""


class AccessError(ServiceError):
    """The service takes no request without a key that it knows (401), or not this one with this key (403)."""


def reason(error: BaseException) -> str:
    """Return the first line of an error that another library raised, or its type's name where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
