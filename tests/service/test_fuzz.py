"""What nobody thought of asking: requests made from the API's own description, right ones and wrong ones."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fakes import HashEncoder
from tests.service.running import running
from tests.service.serving.test_reloader import Source
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app
from udr_service.api import EMBEDDINGS

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TEXTS = st.text(min_size=1, max_size=99).filter(str.strip)
BODIES = ["/v1/retrieve", "/v1/retrieve/batch", "/v1/prompt", EMBEDDINGS]
PATHS = ["/v1/tasks/{task}", "/v1/tasks/{task}/demonstrations/{id}"]
FIXED = ["/v1/tasks", "/v1/info", "/v1/admin/reload"]


@pytest.fixture(scope="module")
def description(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The description of a running service, which can rank by words, too."""
    index = tmp_path_factory.mktemp("fuzz") / "index"
    build(BuildConfig(tasks=collection, out=index, bm25=True), HashEncoder())
    with running(create_app(Source(index), Settings())) as address:
        yield schemathesis.openapi.from_url(f"{address}/v1/openapi.json")


def test_every_operation_is_tried(description: BaseSchema) -> None:
    assert set(description) == {*BODIES, *PATHS, *FIXED}


@pytest.mark.parametrize("path", [*BODIES, *PATHS, *FIXED])
def test_every_answer_is_as_described(description: BaseSchema, path: str) -> None:
    # The same cases each time: who changes something else should not be the one to find them.
    answered = fuzz(description, path, settings(max_examples=30, derandomize=True))
    assert answered[200], "nothing that was asked could be answered"


@pytest.mark.slow
@pytest.mark.parametrize("path", BODIES)
def test_every_answer_to_thousands_is_as_described(description: BaseSchema, path: str) -> None:
    count = math.ceil(5000 / len(BODIES))
    answered = fuzz(description, path, settings(max_examples=count))
    assert answered.total() >= count and answered[200] > count // 10


def fuzz(description: BaseSchema, path: str, how: settings) -> Counter[int]:
    """Send cases of one path, hold each answer against the description, and return how often each status came."""
    (operation,) = description[path].values()
    answered: Counter[int] = Counter()

    @settings(how, database=None, suppress_health_check=list(HealthCheck))
    @given(cases(operation))
    def ask(case: Case[Any]) -> None:
        answered[case.call_and_validate(checks=CHECKS).status_code] += 1

    ask()
    return answered


@st.composite
def cases(draw: st.DrawFn, operation: APIOperation[Any, Any, Any, Any]) -> Case[Any]:
    """Cases that do not fit the description, and cases that do; many of these ask for what there is."""
    wrong = bool(operation.body) and draw(st.booleans())
    case = draw(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE if wrong else GenerationMode.POSITIVE))
    if wrong or draw(st.booleans()):
        return case
    body: Any = case.body
    if operation.path == EMBEDDINGS:
        body |= {"input": draw(st.lists(TEXTS, min_size=1, max_size=3)), "dimensions": None}
    elif operation.body:
        case.body = answerable(draw, body)
    elif case.path_parameters:
        known = {"task": "notes", "id": draw(st.sampled_from(["n00", "n19"]))}
        case.path_parameters = {name: known[name] for name in case.path_parameters}
    return case


def answerable(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A body as it was generated, but of a task that is served, and within the limits."""
    if "requests" in body:
        return {"requests": [answerable(draw, one) for one in body["requests"]]}
    known = {"task": draw(st.sampled_from(["questions", "notes"])), "input": draw(TEXTS), "k": draw(st.integers(1, 9))}
    if "budget" in body:
        known["budget"] = draw(st.integers(99, 999))
    return {name: one for name, one in body.items() if name not in ("family", "scope", "reserve")} | known
