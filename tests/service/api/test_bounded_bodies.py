"""Large bodies: bounded before they are parsed, validated within bounds, and never echoed at length."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tests.service.conftest import BODY, served
from udr.retrieval import Retriever
from udr_service.api import num_values

TEXTS = st.text(st.sampled_from('ab\\"[]{},:\né'))
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


def count(value: Any) -> int:
    """Separators and openings: what ``num_values`` counts."""
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(map(count, value.values()))
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(count, value))
    return 0


@given(VALUES, st.booleans())
def test_the_number_of_values_is_found_without_parsing(value: Any, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    assert num_values(text.encode(), 1000) == count(value)


def post(service: TestClient, body: str, path: str = "/v1/retrieve") -> tuple[int, str, str]:
    answer = service.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    assert len(answer.content) < 6000, "the input is not echoed at length"
    problem = answer.json()
    return answer.status_code, problem["type"].removeprefix("urn:udr:problem:"), problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        '{"exclude": [' + "1," * 900_000 + "1]}",
        '{"requests": [' + "1," * 900_000 + "1]}",
        '{"input": {' + ",".join(f'"k{n}":1' for n in range(150_000)) + "}}",
        "[" * 150_000,
        '{"exclude": [' + '"",' * 500_000 + '""]}',
    ],
    ids=["numbers", "items", "keys", "arrays", "texts"],
)
def test_too_many_values_are_refused(service: TestClient, body: str) -> None:
    assert post(service, body)[:2] == (413, "too-many-values")


def test_a_batch_is_counted_before_its_items_are_looked_at(service: TestClient) -> None:
    body = json.dumps({"requests": [1] * 50_000})
    assert post(service, body, "/v1/retrieve/batch") == (
        413, "batch-too-large", "the batch has 50000 items; the limit is 64",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"exclude": [1] * 50_000}, "/exclude/0: must be a valid string"),
        ({"exclude": ["a"] * 5000}, "/exclude: must have at most 4096 items; found 5000"),
        ({"input": {f"k{n}": 1 for n in range(300)}}, "/input: must have at most 256 items; found more"),
        ({f"k{n}": 1 for n in range(30_000)}, "/k0: is not a field of this request"),
        ({"k" * 100_000: 1}, "is not a field of this request"),
        ({"mode": "m" * 100_000}, "/mode: must be 'dense', 'bm25' or 'hybrid'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_first_few_errors_are_reported(service: TestClient, changes: dict[str, Any], detail: str) -> None:
    status, name, found = post(service, json.dumps({**BODY, **changes}))
    assert (status, name) == (422, "invalid-input")
    assert detail in found


@pytest.mark.parametrize("name", ["task", "family"])
def test_an_unknown_name_is_not_echoed_at_length(service: TestClient, name: str) -> None:
    body = {"input": "a dull day", name: "x" * 100_000}
    assert post(service, json.dumps(body))[:2] == (404, "unknown-task")


def test_a_large_body_is_read_like_a_small_one(service: TestClient) -> None:
    small = service.post("/v1/retrieve", json=BODY).json()
    large = {**BODY, "exclude": [f"unknown {number}" for number in range(2000)]}
    assert service.post("/v1/retrieve", json=large).json() == small


def test_large_answers_equal_small_ones(retriever: Retriever) -> None:
    query = {**BODY, "k": 20, "explain": True}
    with served(retriever) as service:
        (alone,) = service.post("/v1/retrieve/batch", json={"requests": [query]}).json()["results"]
        many = service.post("/v1/retrieve/batch", json={"requests": [query] * 64})
        assert len(many.content) > 65_536
        assert many.json() == {"results": [alone] * 64}
        assert many.headers["Content-Type"] == "application/json"
