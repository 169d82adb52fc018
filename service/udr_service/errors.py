"""What only a service can refuse."""

from starlette.exceptions import HTTPException

from udr.errors import AccessError, InvalidInputError, OverloadedError, RequestError, UdrError


class BatchTooLargeError(RequestError):
    """A batch has more requests than the service takes at once."""


class KTooLargeError(InvalidInputError):
    """A request asks for more demonstrations than the service returns at once."""


class NotReadyError(OverloadedError):
    """The service is up, but cannot answer."""


class UnauthorizedError(AccessError):
    """The request presents no key that this service knows."""


class ForbiddenError(AccessError):
    """The request's key may not do this."""


class ForeignHostError(AccessError):
    """The request was sent to a name that is not this machine's own."""


class ReloadError(UdrError):
    """The version that is published now cannot be served; the one before still answers."""


class BodyTooLargeError(HTTPException):
    """A request's body has more bytes than the service reads."""

    # FastAPI lets nothing but this kind of exception through from the reading of a body.
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes, the limit of this service")


class ListenError(UdrError):
    """The service cannot listen on the address that it was given."""
