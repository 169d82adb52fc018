"""Problems: every failed request gets the right status and a message that names the cause and nothing internal."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Words, served
from udr import errors
from udr.client import PROBLEM, PROBLEM_ERRORS
from udr.errors import ArtifactError, UdrError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.api import KINDS, problem_of


def check(answer: httpx2.Response, status: int, name: str, detail: str) -> Mapping[str, Any]:
    """Check that an answer is this problem and shows nothing internal."""
    problem: Mapping[str, Any] = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert (problem["type"], problem["status"]) == (f"{PROBLEM}{name}", status)
    assert detail in problem["detail"], problem["detail"]
    assert "\n" not in problem["detail"] and "Traceback" not in answer.text and ".py" not in answer.text
    return problem


TWO_FIELDS = {"task": "reviews", "input": {"thing": "lamp", "text": "dull"}}
ONE_FIELD = {"task": "notes", "input": "a dull day"}

INVALID = [
    ({**ONE_FIELD, "task": "nowhere"}, 404, "unknown-task", "unknown task 'nowhere'; the tasks are notes"),
    ({"family": "x", "input": "y"}, 404, "unknown-task", "unknown family 'x'; the families are mood, topic"),
    ({**ONE_FIELD, "kk": 3}, 422, "invalid-input", "/kk: is not a field of this request"),
    ({"input": "y"}, 422, "invalid-input", "exactly one of task, family and scope; found none"),
    ({**ONE_FIELD, "family": "mood"}, 422, "invalid-input", "found task and family"),
    ({"task": "notes"}, 422, "invalid-input", "/input: is missing"),
    ({**TWO_FIELDS, "input": {"thing": "x"}}, 422, "invalid-input", "field 'text' of task 'reviews' is"),
    ({**ONE_FIELD, "input": {"text": "x", "y": 1}}, 422, "invalid-input", "has no field 'y'"),
    ({**TWO_FIELDS, "input": "x"}, 422, "invalid-input", "'thing', 'text', but plain text"),
    ({"family": "mood", "input": {"text": "x"}}, 422, "invalid-input", "plain text"),
    ({**ONE_FIELD, "input": 3}, 422, "invalid-input", "/input: must be text, or an object"),
    ({**ONE_FIELD, "k": 0}, 422, "invalid-input", "/k: must be greater than or equal to 1"),
    ({**ONE_FIELD, "k": 257}, 422, "k-too-large", "k must be at most 256, the limit of this"),
    ({**ONE_FIELD, "k": True}, 422, "invalid-input", "/k: must be a valid integer"),
    ({**ONE_FIELD, "input": "a" * 100_000}, 413, "too-long", "characters; the limit is 32768"),
    ({**ONE_FIELD, "input": "a \ud800"}, 422, "invalid-input", "half a surrogate pair"),
    ({**ONE_FIELD, "\ud800": 1}, 422, "invalid-input", "the body"),
    ({**ONE_FIELD, "task": "\ud800"}, 404, "unknown-task", "unknown task"),
    ({**ONE_FIELD, "min_similarity": float("nan")}, 422, "invalid-input", "/min_similarity"),
    ({**ONE_FIELD, "input": {"text": float("inf")}}, 422, "invalid-input", "/input/text"),
    ({**ONE_FIELD, "a/b~": 1}, 422, "invalid-input", "/a~1b~0: is not a field"),
    ({**ONE_FIELD, "a\nb": 1}, 422, "invalid-input", r"/a\nb: is not a field"),
    ({**ONE_FIELD, "input": {"\ud800": float("nan")}}, 422, "invalid-input", "/input"),
    ([], 422, "invalid-input", "the body: must be an object"),
    (None, 422, "invalid-input", "the body"),
]
PROMPT = {**ONE_FIELD, "budget": 50}
INVALID_PROMPTS = [
    (ONE_FIELD, 422, "invalid-input", "/budget: is missing"),
    ({**PROMPT, "budget": 0}, 422, "invalid-input", "/budget"),
    ({**PROMPT, "budget": 10**9}, 422, "invalid-input", "at most 65536 tokens"),
    ({**PROMPT, "reserve": -1}, 422, "invalid-input", "/reserve"),
    ({**PROMPT, "reserve": 50}, 422, "invalid-input", "below the budget of 50 tokens, found 50"),
    ({**PROMPT, "budget": 3}, 413, "too-long", "needs 11 tokens without any demonstration"),
    ({**PROMPT, "format": "xml"}, 422, "invalid-input", "/format: must be 'text', 'messages' or"),
    ({**PROMPT, "input": "a" * 100_000}, 413, "too-long", "characters; the limit is 32768"),
]


def post(service: TestClient, path: str, body: object) -> httpx2.Response:
    return service.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("limits", "most"), [({"client_items_per_second": 0.5}, 80), ({"client_requests_per_second": 0.1}, 10)]
)
def test_a_client_above_its_rate_is_told_when_to_try_again(
    retriever: Retriever, limits: dict[str, Any], most: int
) -> None:
    app = create_app(retriever, Settings(**limits), Words())
    with TestClient(app, client=("192.0.2.1", 1)) as client:
        assert client.post("/v1/retrieve/batch", json={"requests": [ONE_FIELD] * 40}).status_code == 200
        refused = client.post("/v1/retrieve", json=ONE_FIELD)
    seconds = int(refused.headers["Retry-After"])
    check(refused, 429, "client-limit", f"; try again in {seconds} s")
    assert 1 < seconds <= most


@pytest.mark.parametrize(
    ("path", "body", "status", "name", "detail"),
    [
        *(("/v1/retrieve", *case) for case in INVALID),
        *(("/v1/prompt", *case) for case in INVALID_PROMPTS),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_invalid_bodies(service: TestClient, path: str, body: Any, status: int, name: str, detail: str) -> None:
    problem = check(post(service, path, body), status, name, detail)
    assert problem["instance"] == path


def test_findings_have_pointers_and_are_limited(service: TestClient) -> None:
    problem = post(service, "/v1/retrieve", {"input": {"text": [1, float("nan")]}, "k": 0, "x": 1}).json()
    assert {finding["pointer"] for finding in problem["errors"]} == {"/input/text/1", "/k", "/x"}
    assert len(post(service, "/v1/retrieve", {str(number): 0 for number in range(1000)}).json()["errors"]) == 16


@pytest.mark.parametrize(
    ("content", "status", "name"),
    [
        (b'{"task": ', 400, "malformed-json"),
        (b"{'task': 1}", 400, "malformed-json"),
        (b'{"input": "\xff\xfe\xff"}', 400, "malformed-json"),
        (b'{"k": ' + b"9" * 5000 + b"}", 400, "malformed-json"),
        (b'{"input": ' + b"[" * 90_000, 400, "malformed-json"),
        (b'{"task": "notes", "input": {"text": ' + b"[" * 400 + b"]" * 400 + b"}}", 422, "invalid-input"),
        (b"", 422, "invalid-input"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_unreadable_bodies(service: TestClient, content: bytes, status: int, name: str) -> None:
    answer = service.post("/v1/retrieve", content=content, headers={"Content-Type": "application/json"})
    check(answer, status, name, "")
    if content:
        answer = service.post("/v1/retrieve", content=content, headers={"Content-Type": "text/plain"})
        check(answer, 415, "not-json", "Content-Type: application/json")


def test_bodies_and_batches_above_the_limit_are_refused(retriever: Retriever) -> None:
    content = json.dumps({**ONE_FIELD, "input": "a" * 500}).encode()
    headers = {"Content-Type": "application/json"}
    with served(retriever, max_body_bytes=len(content), max_batch=2) as client:
        assert client.post("/v1/retrieve", content=content, headers=headers).status_code == 200
        for sent in (content + b" ", iter([content, b" "])):
            answer = client.post("/v1/retrieve", content=sent, headers=headers)
            check(answer, 413, "body-too-large", f"larger than {len(content)} bytes")
            assert answer.headers["X-Udr-Index-Version"] == retriever.index_version
        answer = client.post("/v1/retrieve/batch", json={"requests": [ONE_FIELD] * 3})
        check(answer, 413, "batch-too-large", "has 3 items; the limit is 2")


@pytest.mark.parametrize(
    ("method", "path", "status", "name", "detail"),
    [
        ("GET", "/v1/nowhere", 404, "not-found", "GET /v1/nowhere"),
        ("GET", "/redoc", 404, "not-found", "GET /redoc"),
        ("GET", "/v1/retrieve", 405, "method-not-allowed", "GET /v1/retrieve"),
        ("GET", "/v1/tasks/nowhere", 404, "unknown-task", "unknown task 'nowhere'"),
        ("GET", "/v1/tasks/nowhere/demonstrations/1", 404, "unknown-task", "unknown task 'nowhere'"),
        ("GET", "/v1/tasks/notes/demonstrations/1", 404, "unknown-task", "task 'notes' has no demonstration '1'"),
    ],
)
def test_unknown_paths_and_methods_are_problems(
    service: TestClient, method: str, path: str, status: int, name: str, detail: str
) -> None:
    answer = service.request(method, path)
    check(answer, status, name, detail)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("error", [RuntimeError("secret /etc/x"), ArtifactError("secret /etc/x"), KeyError("secret")])
def test_an_internal_error_shows_nothing(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(plans: object, vectors: object) -> object:
        raise error

    monkeypatch.setattr(retriever, "search", fail)
    with served(retriever) as client:
        answer = client.post("/v1/retrieve", json=ONE_FIELD)
        check(answer, 500, "internal", "see its log")
        assert "secret" not in answer.text
        assert answer.headers["X-Udr-Index-Version"] == retriever.index_version
        ready = client.get("/readyz")
        check(ready, 503, "not-ready", "cannot count tokens, encode and search")
        assert "secret" not in ready.text and ready.headers["Retry-After"] == "1"
        assert client.get("/livez").status_code == 200


def test_a_batch_that_costs_more_than_the_queue_takes_is_refused(retriever: Retriever) -> None:
    with served(retriever, max_batch=2, queue_size=2) as client:
        item = {**ONE_FIELD, "input": "a dull day " * 2000}
        answer = client.post("/v1/retrieve/batch", json={"requests": [item, item]})
        check(answer, 413, "too-costly", "plain queries; the queue takes 2; send fewer or shorter queries")


def test_kinds_are_distinct_and_match_the_client_s_errors() -> None:
    names = [kind.name for kind in KINDS.values()]
    assert len(set(names)) == len(names)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())
    assert set(PROBLEM_ERRORS) <= {f"{PROBLEM}{name}" for name in names}
    for error in (errors.UnknownTaskError, errors.InvalidInputError, errors.TooLongError):
        assert PROBLEM_ERRORS[problem_of(error("x"), "/").type] is error
    for other in (UdrError("x"), errors.ModelError("x"), errors.DataError("x"), errors.VerificationError("x")):
        assert problem_of(other, "/").status == 500


def test_every_problem_is_provoked_by_some_test() -> None:
    """Each type of problem stands in a test of the service, with the detail that it has to have."""
    tests = "\n".join(path.read_text("utf-8") for path in Path(__file__).parents[1].rglob("*.py"))
    names = {kind.name for kind in KINDS.values()}
    assert len(names) > 20 and [name for name in sorted(names) if not re.search(rf"\b{name}\b", tests)] == []
