"""The API's description is committed; what changes it, changes the file."""

import json
from pathlib import Path

from udr_service import description

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_committed_description_is_that_of_the_code() -> None:
    assert COMMITTED.read_text("utf-8") == description(), "run: python -m udr_service.openapi > docs/openapi.json"


def test_the_description_is_whole() -> None:
    document = json.loads(description())
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path} says nothing"
            assert {"default", "200"} <= set(operation["responses"]), f"{method} {path}"
