"""The API's description: ``python -m udr_service.openapi`` prints what ``docs/openapi.json`` holds."""

import json
from pathlib import Path

from udr_service.app import create_app
from udr_service.serving import Counts, IndexSource
from udr_service.settings import Settings


def description() -> str:
    """Return the API's description as OpenAPI 3.1 has it, in JSON."""
    settings = Settings()
    # The description is the same whatever is served, and an application that is not started opens nothing.
    app = create_app(IndexSource(Path(), settings, Counts()), settings)
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(description(), end="")  # noqa: T201
