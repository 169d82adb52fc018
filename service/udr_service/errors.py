"""Errors that only a service raises."""

from starlette.exceptions import HTTPException

from udr.errors import AccessError, InvalidInputError, OverloadedError, RequestError, UdrError


class BatchTooLargeError(RequestError):
    """A batch holds more requests than the service accepts."""


class KTooLargeError(InvalidInputError):
    """A request asks for more demonstrations than the service's limit."""


class NotReadyError(OverloadedError):
    """The service runs but cannot answer yet, or is shutting down."""


class BusyError(OverloadedError):
    """The service has too many connections, or holds too many bodies."""


class ClientLimitError(OverloadedError):
    """A client, by its key or address, is above one of its limits; ``seconds`` says when to try again."""

    def __init__(self, message: str, seconds: int = 1) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooManyValuesError(RequestError):
    """A body holds more values than the service reads."""


class CostError(InvalidInputError):
    """A request costs more than the queue ever takes."""


class SlowRequestError(UdrError):
    """A request takes too long to arrive."""


class HeadTooLargeError(UdrError):
    """A request line and its headers exceed the limit."""


class MalformedRequestError(UdrError):
    """What a client sent is not HTTP."""


class IndexDamagedError(NotReadyError):
    """A file of the version that answers has been truncated or altered since it was opened."""


class UnauthorizedError(AccessError):
    """The request has no API key, or an unknown one."""


class ForbiddenError(AccessError):
    """The request's API key does not allow this path."""


class ForeignHostError(AccessError):
    """The request's ``Host`` header does not name this machine."""


class CrossSiteError(AccessError):
    """A page of another site sent the request."""


class AmbiguousHostError(AccessError):
    """The request has more than one ``Host`` header."""


class VersionMismatchError(UdrError):
    """The request asks for another index version than the one that answers."""


class ContentError(HTTPException):
    """A request's body is encoded in a way that the service does not read."""

    # FastAPI passes only this kind of exception through while it reads a body.
    def __init__(self, message: str) -> None:
        super().__init__(415, message)


class ReloadError(UdrError):
    """The published version cannot be served; the previous one stays active."""


class BodyTooLargeError(HTTPException):
    """A request's body exceeds the limit."""

    # FastAPI passes only this kind of exception through while it reads a body.
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes, the limit of this service")


class UpstreamError(UdrError):
    """The upstream of the gateway cannot be reached, or hung up before it answered."""


class UpstreamTimeoutError(UdrError):
    """The upstream of the gateway took too long to begin its answer."""


class WorkerError(UdrError):
    """A worker of the service cannot start."""


class ListenError(UdrError):
    """The service cannot listen on its address."""
