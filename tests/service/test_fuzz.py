"""Requests generated from the OpenAPI description, valid and invalid ones."""

import copy
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import InvalidSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fakes import HashEncoder
from tests.service.conftest import Source
from tests.service.running import running
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app
from udr_service.api import EMBEDDINGS

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TEXTS = st.text(min_size=1, max_size=99).filter(str.strip)
BODIES = ["/v1/retrieve", "/v1/retrieve/batch", "/v1/prompt", EMBEDDINGS]
ROW, ROWS = "/v1/tasks/{task}/demonstrations/{id}", "/v1/tasks/{task}/demonstrations"
PATHS = ["/v1/tasks/{task}", ROW, ROWS, "/v1/models/{model}"]
WRITES = [("PUT", ROW), ("DELETE", ROW), ("POST", f"{ROWS}:batch")]
IDS = ["n00", "n19"]
FILTERS = ["must", "should", "must_not"]
OUTCOMES = "/v1/outcomes"
FIXED = ["/v1/tasks", "/v1/models", "/v1/info", "/v1/admin/reload"]


@pytest.fixture(scope="module")
def description(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The description of a running service whose index has BM25."""
    index = tmp_path_factory.mktemp("fuzz") / "index"
    build(BuildConfig(tasks=collection, out=index, bm25=True), HashEncoder())
    with running(create_app(Source(index), Settings())) as address:
        description = schemathesis.openapi.from_dict(unrolled(httpx.get(f"{address}/v1/openapi.json").json()))
        description.config.update(base_url=address)
        assert set(description) == {*BODIES, *PATHS, *FIXED, OUTCOMES, *(path for _, path in WRITES)}
        yield description


def unrolled(document: dict[str, Any]) -> dict[str, Any]:
    """Return a description whose filters hold conditions, and filters of conditions.

    Schemathesis unrolls what holds itself without end, and takes all memory, when it makes a body that violates it.
    """
    schemas = document["components"]["schemas"]
    schemas["InnerFilterBody"] = inner = copy.deepcopy(schemas["FilterBody"])
    for parts in FILTERS:
        condition, itself = schemas["FilterBody"]["properties"][parts]["anyOf"][0]["items"]["oneOf"]
        assert itself["$ref"] == "#/components/schemas/FilterBody"
        itself["$ref"] = "#/components/schemas/InnerFilterBody"
        inner["properties"][parts]["anyOf"][0]["items"] = condition
    return document


ASKED = [*(("POST", path) for path in BODIES), *(("GET", path) for path in [*PATHS, *FIXED[:-1]]), ("POST", FIXED[-1])]


@pytest.mark.parametrize(("method", "path"), [*ASKED, *WRITES])
def test_answers_match_the_description(description: BaseSchema, method: str, path: str) -> None:
    # Tests run in any order, and one of them deletes these rows.
    for id in IDS:
        url = f"{description.config.base_url}{ROW.format(task='notes', id=id)}"
        httpx.put(url, json={"input": {"text": f"a text of {id}"}, "target": "glad"}).raise_for_status()
    # The same cases in each run: a failure should be due to the change under test.
    statuses = fuzz(description, method, path, settings(max_examples=20, derandomize=True))
    assert statuses[200] + statuses[201] + statuses[204], "no request was valid"


def test_answers_to_outcomes_of_unknown_prompts_match_the_description(description: BaseSchema) -> None:
    statuses = fuzz(description, "POST", OUTCOMES, settings(max_examples=30, derandomize=True))
    assert statuses[404] and statuses[422]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", BODIES)
def test_thousands_of_answers_match_the_description(description: BaseSchema, path: str) -> None:
    count = math.ceil(20_000 / len(BODIES))
    statuses = fuzz(description, "POST", path, settings(max_examples=count))
    assert statuses.total() >= count and statuses[200] > count // 10


def fuzz(description: BaseSchema, method: str, path: str, profile: settings) -> Counter[int]:
    """Send cases of one operation, check each answer against the description, and count the statuses."""
    operation = description[path][method]
    statuses: Counter[int] = Counter()

    @settings(profile, database=None, suppress_health_check=list(HealthCheck))
    @given(cases(operation))
    def send(case: Case[Any]) -> None:
        statuses[case.call_and_validate(checks=CHECKS).status_code] += 1

    send()
    return statuses


@st.composite
def cases(draw: st.DrawFn, operation: APIOperation[Any, Any, Any, Any]) -> Case[Any]:
    """Cases that violate the description, and cases that follow it, many of them answerable."""
    invalid = bool(operation.body) and draw(st.booleans())
    mode = GenerationMode.NEGATIVE if invalid else GenerationMode.POSITIVE
    try:
        case = draw(operation.as_strategy(generation_mode=mode))
    except InvalidSchema:
        # It finds no body that violates the description where it chose to; other choices do.
        reject()
    if invalid or draw(st.booleans()):
        return case
    body: Any = case.body
    if operation.path == EMBEDDINGS:
        body |= {"input": draw(st.lists(TEXTS, min_size=1, max_size=3)), "dimensions": None}
    elif operation.path == OUTCOMES:
        case.body = {"prompt_id": "unknown", "score": draw(st.floats(0, 1))}
    elif operation.body and not case.path_parameters:
        case.body = answerable(draw, body)
    elif case.path_parameters:
        row: dict[str, Any] = {"input": {"text": draw(TEXTS)}, "target": "glad"}
        if operation.body:
            case.body = {"put": [{"id": "n00", **row}]} if operation.path.endswith(":batch") else row
        known = {"task": "notes", "id": draw(st.sampled_from(IDS)), "model": "fake-hash"}
        case.path_parameters = {name: known[name] for name in case.path_parameters}
    return case


def answerable(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """The generated body, changed to a task that is served and to values within the limits."""
    if "requests" in body:
        return {"requests": [answerable(draw, item) for item in body["requests"]]}
    known = {"task": draw(st.sampled_from(["questions", "notes"])), "input": draw(TEXTS), "k": draw(st.integers(1, 9))}
    if "budget" in body:
        known["budget"] = draw(st.integers(99, 999))
    return {name: value for name, value in body.items() if name not in ("family", "scope", "reserve")} | known
