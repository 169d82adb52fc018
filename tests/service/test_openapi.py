"""The committed OpenAPI description is the code's, and complete; wire types match the core's."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin

import pytest

from udr.prompts import BuildingOptions, Prompt, PromptDemonstration, SpecialToken, Truncation
from udr.retrieval import Decision, Retrieval, RetrievalRequest, RetrievedDemonstration, SelectionOptions
from udr.types import Row, TokenCount
from udr_service import description

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> Mapping[str, Any]:
    return json.loads(description())  # type: ignore[no-any-return]


def test_committed_description_is_current() -> None:
    assert COMMITTED.read_text("utf-8") == description(), "run: python -m udr_service.openapi > docs/openapi.json"


def test_description_is_complete(document: Mapping[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path} has no description"
            expected = "204" if method == "delete" else "200"
            assert {"default", expected} <= set(operation["responses"]), f"{method} {path}"
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert document["paths"]["/v1/retrieve"]["post"]["responses"]["422"]["content"] == problem
    assert set(schemas["RetrieveBody"]["required"]) == {"input"}


WIRE: dict[str, Any] = {
    "DemonstrationAnswer": RetrievedDemonstration,
    "TokensAnswer": TokenCount,
    "DecisionAnswer": Decision,
    "RetrieveAnswer": Retrieval,
    "ShownAnswer": PromptDemonstration,
    "SpecialTokenAnswer": SpecialToken,
    "TruncationAnswer": Truncation,
    "PromptAnswer": Prompt,
    "RowAnswer": Row,
    "RetrieveBody": RetrievalRequest,
    "PromptBody": BuildingOptions,
}
WIRE_ONLY = {
    "RowAnswer": {"task", "retrieved", "shown"},
    "PromptBody": {"task", "budget", "reserve", "format", "input", "k", "tokenizer"},
}
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


@pytest.mark.parametrize("name", WIRE)
def test_wire_types_match_the_core(document: Mapping[str, Any], name: str) -> None:
    wire = document["components"]["schemas"][name]["properties"]
    core = dict(WIRE[name].__annotations__) | (SelectionOptions.__annotations__ if name == "PromptBody" else {})
    if name == "PromptAnswer":
        core["prompt"] = core.pop("text")

    assert set(wire) - WIRE_ONLY.get(name, set()) == set(core)
    for field, hint in core.items():
        options = wire[field].get("anyOf") or wire[field].get("oneOf") or [wire[field]]
        types = {option.get("type") for option in options}
        members: tuple[Any, ...] = get_args(hint) if cast("Any", get_origin(hint)) in (Union, UnionType) else (hint,)
        assert {PLAIN[plain] for plain in PLAIN if plain in members} <= types, field


def test_defaults_of_requests_are_the_core_s(document: Mapping[str, Any]) -> None:
    wire = document["components"]["schemas"]["RetrieveBody"]["properties"]
    for field in fields(RetrievalRequest):
        if field.default is not MISSING:
            assert wire[field.name].get("default") == (field.default if field.default != () else []), field.name
