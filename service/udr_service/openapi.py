"""The OpenAPI description: ``python -m udr_service.openapi`` prints the content of ``docs/openapi.json``."""

import json
from pathlib import Path

from udr_service.app import create_app
from udr_service.serving import IndexSource
from udr_service.settings import Settings


def description() -> str:
    """Return the description of the API, OpenAPI 3.1 as JSON."""
    settings = Settings(upstream="http://localhost/v1")
    # It does not depend on the index, and an application that is not started opens none.
    app = create_app(IndexSource(Path(), settings), settings)
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(description(), end="")  # noqa: T201
