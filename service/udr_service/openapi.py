"""The API's description: ``python -m udr_service.openapi`` prints what ``docs/openapi.json`` holds."""

import json
from typing import NoReturn

from udr_service.app import create_app
from udr_service.current import Served
from udr_service.settings import Settings


class _Nothing:
    """A source that is never asked: the description is the same whatever is served."""

    def current(self) -> NoReturn:
        raise NotImplementedError

    def load(self) -> Served:
        raise NotImplementedError


def description() -> str:
    """Return the API's description as OpenAPI 3.1 has it, in JSON."""
    return json.dumps(create_app(_Nothing(), Settings()).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(description(), end="")  # noqa: T201
