"""Requests: no parameter that a path does not take; bodies parsed and validated within bounds, large ones in a thread.

No key of an object hides another of the same name. The number of values is bounded before anything is made of them.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from udr.data import distinct
from udr.errors import InvalidInputError, brief
from udr_service.api.problems import EMBEDDINGS, MODELS
from udr_service.auth import GATEWAY
from udr_service.errors import TooManyValuesError
from udr_service.schemas import first_errors
from udr_service.serving import Service
from udr_service.settings import Settings

_INLINE_BYTES = 4096
"""Smaller bodies are parsed on the event loop; handing them to a thread would take longer."""


class _BoundedRequest(Request):
    """A request whose JSON is a validated body: FastAPI validates it again at no cost, since it is one already.

    Its body arrives as one message, see ``BodyLimit``. FastAPI keeps what ``body`` returns until the answer is sent, so
    that is a part of it.
    """

    schema: type[BaseModel] | None = None
    failure: Exception | None = None

    content: bytes | None = None
    text: str = ""

    async def body(self) -> bytes:
        """Return the first byte of the body; empty without one."""
        if self.content is None:
            self.content = (await self.receive())["body"]
        return bytes(self.content[:1])

    async def json(self) -> Any:  # noqa: ANN401
        try:
            return await self._validated()
        except json.JSONDecodeError:
            raise
        except Exception as error:
            # FastAPI passes only this kind of exception through while it reads a body.
            self.failure = error
            raise HTTPException(400) from error

    async def _validated(self) -> Any:  # noqa: ANN401
        body, self.content = self.content or b"", b""
        service = cast("Service", self.app.state.service)
        if len(body) <= _INLINE_BYTES:
            validated = _validated(body, self.schema, service.settings)
        else:
            async with service.context(self) as context:
                validated = await context.prepare(lambda _: _validated(body, self.schema, service.settings))
        if getattr(self.schema, "KEEPS_TEXT", False):
            self.text = body.decode()
        return validated


def taken_text(request: Request) -> str:
    """Return the text of a request's body, whose schema has ``KEEPS_TEXT``; it is not kept any longer."""
    bounded = cast("_BoundedRequest", request)
    text, bounded.text = bounded.text, ""
    return text


class StrictRoute(APIRoute):
    """A route that reads its body by this module, and takes no query parameters but its own.

    Paths of OpenAI's shape ignore others, which its clients may send.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()
        schema = cast("type[BaseModel]", self.body_field.field_info.annotation) if self.body_field else None

        known = [field.alias for field in self.dependant.query_params]

        async def handle_strictly(request: Request) -> Response:
            unknown = [name for name in request.query_params if name not in known]
            if unknown and not self.path.startswith((EMBEDDINGS, MODELS, GATEWAY)):
                # A mistyped filter would give rows of all.
                takes = f"takes {', '.join(known)}" if known else "takes none"
                raise InvalidInputError(f"there is no query parameter {brief(unknown[0])}; this path {takes}")
            bounded = _BoundedRequest(request.scope, request.receive)
            bounded.schema = schema
            try:
                return await handle(bounded)
            except HTTPException:
                if bounded.failure is None:
                    raise
                raise bounded.failure from None
            finally:
                # The error's traceback leads back to the request: the body would stay until the garbage is collected.
                bounded.failure = None

        return handle_strictly


def _validated(body: bytes, schema: type[BaseModel] | None, settings: Settings) -> Any:  # noqa: ANN401
    """Return a body as an object of its schema.

    Raises:
        TooManyValuesError: it holds too many values.
        JSONDecodeError: it is not JSON in UTF-8, or an object has a key twice.
        RequestValidationError: it does not match the schema.
    """
    if num_values(body, settings.max_values) > settings.max_values:
        raise TooManyValuesError(f"the body holds more than {settings.max_values} values, the limit of this service")
    content = _parsed(body)
    if schema is None:
        return content
    try:
        return schema.model_validate(content, context=settings)
    except ValidationError as error:
        # As FastAPI would.
        located = [{**item, "loc": ("body", *item["loc"])} for item in first_errors(error)]
        raise RequestValidationError(located, body=content) from error


def _parsed(body: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(body.decode(), object_pairs_hook=distinct)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError("arrays and objects are nested too deeply", "", 0) from error
    except ValueError as error:
        # FastAPI reports only this kind of error as the client's.
        raise json.JSONDecodeError(str(error), "", 0) from error


def num_values(body: bytes, limit: int) -> int:
    """Return at least how many values and keys a JSON text holds, in a few milliseconds per megabyte.

    If that is above ``limit``, it may be less than all.
    """
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    strings = plain.count(b'"') // 2
    if strings > limit:
        return strings
    structure = b"".join(plain.split(b'"')[::2])
    return sum(map(structure.count, (b",", b":", b"[", b"{")))
