"""The errors that udr raises.

    UdrError
    ├── RequestError ── UnknownTaskError, UnknownPromptError, InvalidInputError, TooLongError, ConflictError
    ├── ConfigError
    ├── DataError
    ├── ModelError
    ├── ArtifactError ── VerificationError, OutdatedError, StoreError
    ├── MissingExtraError
    ├── FeedbackError
    ├── TrainingError
    ├── PartialError
    ├── StoppedError
    ├── StorageError ── NotWriterError
    └── ServiceError ── OverloadedError, DeadlineError, AccessError, ShardsError

Programming errors (a wrong type or shape) are ``TypeError`` and ``ValueError``. A message is one line: what was asked,
what was found, what to do.
"""

import errno
import gc
import os
import re
import reprlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from udr.installation import install_extra


class UdrError(Exception):
    """Base of all errors that udr raises; its message can be shown to a user."""

    def __reduce__(self) -> tuple[object, ...]:
        # A subclass may take other arguments than a message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[UdrError], args: tuple[object, ...], attributes: dict[str, object]) -> UdrError:
    error = kind.__new__(kind, *args)
    error.__dict__ |= attributes
    return error


class RequestError(UdrError):
    """A request cannot be answered; other requests are not affected."""


class UnknownTaskError(RequestError):
    """There is no such task, family or demonstration."""


class UnknownPromptError(RequestError):
    """There is no such prompt, or not any more, whose outcome could be told."""


class InvalidInputError(RequestError):
    """A value in the request is missing, unknown, of the wrong type or out of range."""


class TooLongError(RequestError):
    """A text in the request exceeds its limit."""


class ConflictError(RequestError):
    """A write depends on a version of a row that the row does not have now."""


class ConfigError(UdrError):
    """A setting or an option is invalid, alone or in combination."""


class DataError(UdrError):
    """A task, row or data file is invalid; ``path``, ``line`` (from 1) and ``field`` (a key) tell where, if known."""

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        location = ":".join(str(part) for part in (path, line) if part is not None)
        key = f"field {field[:80]!r}" if field is not None else ""
        super().__init__(": ".join(filter(None, (location, key, message))))
        self.path, self.line, self.field = path, line, field


class ModelError(UdrError):
    """A model cannot be found, or its files are not a model of the requested kind."""


class ArtifactError(UdrError):
    """An index or a run is missing, incomplete, or made with another encoder or wording."""


class VerificationError(ArtifactError):
    """A file of an index or a run does not match its manifest."""


class OutdatedError(ArtifactError):
    """The version that is open lacks writes that only a newer one has now; open the index again."""


class StoreError(ArtifactError):
    """A remote store does not answer as it should: no network, no access, no such bucket, ..."""


class MissingExtraError(UdrError, ImportError):
    """An optional package is not installed, or is broken; ``extra`` installs it."""

    def __init__(self, what: str, extra: str, broken: str = "") -> None:
        broken = f"is installed, but cannot be imported: {broken}; run: udr doctor" if broken else ""
        super().__init__(f"{what} {broken or f'is not installed; run: {install_extra(extra)}'}")
        self.extra = extra


@contextmanager
def optional_import(what: str, extra: str) -> Iterator[None]:
    """Raise ``MissingExtraError`` if an import in the body fails."""
    # What an import makes is no garbage; the search for some is a sixth of the time that torch and its libraries take.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except (ImportError, RuntimeError) as error:
        # FAISS for GPUs ends its import with a RuntimeError where CUDA's libraries are missing.
        missing = isinstance(error, ModuleNotFoundError)
        raise MissingExtraError(what, extra, "" if missing else reason(error)) from error
    finally:
        if collects:
            gc.enable()


class FeedbackError(UdrError):
    """The feedback language model returned no usable scores."""


class TrainingError(UdrError):
    """A training or one of its processes ended early; the same command resumes the training."""


class PartialError(UdrError):
    """Parts of the work failed on every try; all other parts are done and stored."""


class StoppedError(UdrError):
    """Nobody waits for this request any more, so it was not finished."""


class StorageError(UdrError):
    """A write could not be stored: the disk is full or fails. Nothing was written."""


class NotWriterError(StorageError):
    """Another process holds the lock of the writer; this one only reads."""


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


class ShardsError(ServiceError):
    """What was asked is in no shard that answered; ``summary`` says so without the addresses of the services."""

    def __init__(self, message: str, *, status: int | None = None, type: str | None = None, summary: str = "") -> None:
        super().__init__(message, status=status, type=type)
        self.summary = summary


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 100, 100

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write numbers of thousands of digits.
        return repr(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"


_SHORT = _Short()
_LISTED = 12


def brief(value: object) -> str:
    """Return a value as a message shows it: as ``repr``, but of what is long only some hundred characters."""
    text = _SHORT.repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def listed(names: Iterable[str], count: int) -> str:
    """Return the first of ``count`` names as a message lists them, and how many more there are."""
    more = f" and {count - _LISTED} more" if count > _LISTED else ""
    return ", ".join(islice(names, _LISTED)) + more


def reason(error: BaseException) -> str:
    """Return the first line of another library's error, or its type's name if it has no message."""
    if isinstance(error, OSError) and error.strerror:
        # Without the number, which helps nobody.
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    first = next(iter(str(error).splitlines()), "")
    return re.sub(r"\[Errno -?\d+\] ", "", first) or type(error).__name__


_ADVICE = {
    errno.EACCES: "check the permissions, or choose another place",
    errno.EPERM: "check the permissions, or choose another place",
    errno.ENOENT: "check the path",
    errno.EEXIST: "something else has this name; choose another",
    errno.EISDIR: "a file is needed here, not a folder",
    errno.ENOTDIR: "a folder is needed here, not a file",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free some space and try again; what is complete is kept",
    errno.EDQUOT: "free some space and try again; what is complete is kept",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or choose another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How SQLite, libraries in Rust (tokenizers, safetensors), and torch, which does not say why, report a full disk.
_FULL_IN_WORDS = re.compile("database or disk is full|No space left on device|PytorchStreamWriter failed")


@contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Raise a full disk as the system's error that names a place, whichever library met it."""
    try:
        yield
    except UdrError:
        raise
    except Exception as error:
        full = error.errno in _FULL if isinstance(error, OSError) else _FULL_IN_WORDS.search(str(error))
        if not full or getattr(error, "filename", None) is not None:
            raise
        number = error.errno if isinstance(error, OSError) else None
        raise OSError(number or errno.ENOSPC, os.strerror(number or errno.ENOSPC), str(place)) from error


def system_error(error: OSError) -> str:
    """Return an error of the operating system in one line: the file, what is wrong with it, and what to do."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        # One error of many files: their sources, their copies and the texts of their errors.
        _, copy, why = error.args[0][0]
        number = re.search(r"\[Errno (\d+)\]", why)
        error = OSError(int(number[1]) if number else errno.ENOSPC, "", copy)
        error.strerror = os.strerror(error.errno or 0)
    place = "" if error.filename is None else f"{os.fspath(error.filename)}: "
    advice = _ADVICE.get(error.errno or 0)
    return f"{place}{error.strerror or reason(error)}{f'; {advice}' if advice else ''}"
