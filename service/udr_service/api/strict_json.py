"""Request bodies, parsed so that no key of an object hides another of the same name."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from udr.data import distinct


class _StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401
        body = await self.body()
        try:
            return json.loads(body, object_pairs_hook=distinct)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            # FastAPI reports only this kind of error as the client's.
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictRoute(APIRoute):
    """A route that refuses a body with a duplicate key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly
