"""What there is no answer to is a problem that names the thing, with the right status and nothing internal."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Words
from udr import errors
from udr.client import PROBLEM, PROBLEM_ERRORS
from udr.errors import ArtifactError, UdrError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.api import KINDS, problem_of


def check(answer: httpx2.Response, status: int, name: str, detail: str) -> Mapping[str, Any]:
    """Assert that an answer is this problem and holds nothing that a problem should not."""
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

BAD = {
    "unknown task": ({**ONE_FIELD, "task": "nowhere"}, 404, "unknown-task", "unknown task 'nowhere'; there are notes"),
    "unknown family": ({"family": "x", "input": "y"}, 404, "unknown-task", "unknown family 'x'; there are mood, topic"),
    "unknown scope": ({"scope": "most", "input": "y"}, 422, "invalid-input", "/scope"),
    "unknown key": ({**ONE_FIELD, "kk": 3}, 422, "invalid-input", "/kk: is not a field of this request"),
    "no scope": ({"input": "y"}, 422, "invalid-input", "exactly one of task, family and scope; found none"),
    "two scopes": ({**ONE_FIELD, "family": "mood"}, 422, "invalid-input", "found task and family"),
    "missing input": ({"task": "notes"}, 422, "invalid-input", "/input: is missing"),
    "missing field": (
        {**TWO_FIELDS, "input": {"thing": "x"}},
        422,
        "invalid-input",
        "field 'text' of task 'reviews' is",
    ),
    "unknown field": ({**ONE_FIELD, "input": {"text": "x", "y": 1}}, 422, "invalid-input", "has no field 'y'"),
    "object in a field": ({**ONE_FIELD, "input": {"text": {"a": 1}}}, 422, "invalid-input", "field 'text'"),
    "plain text, two fields": ({**TWO_FIELDS, "input": "x"}, 422, "invalid-input", "'thing', 'text', but plain text"),
    "fields over a family": ({"family": "mood", "input": {"text": "x"}}, 422, "invalid-input", "is plain text"),
    "input of no kind": ({**ONE_FIELD, "input": 3}, 422, "invalid-input", "/input: must be text, or an object"),
    "k = 0": ({**ONE_FIELD, "k": 0}, 422, "invalid-input", "/k: must be greater than or equal to 1"),
    "k < 0": ({**ONE_FIELD, "k": -1}, 422, "invalid-input", "/k"),
    "k above the pool": ({**ONE_FIELD, "k": 21}, 422, "invalid-input", "k must be from 1 to 20"),
    "k above the limit": ({**ONE_FIELD, "k": 257}, 422, "k-too-large", "k must be at most 256, the limit of this"),
    "k as text": ({**ONE_FIELD, "k": "8"}, 422, "invalid-input", "/k: must be a valid integer"),
    "k as truth": ({**ONE_FIELD, "k": True}, 422, "invalid-input", "/k: must be a valid integer"),
    "100,000 characters": (
        {**ONE_FIELD, "input": "a" * 100_000},
        413,
        "too-long",
        "characters; the limit is 32768",
    ),
    "half a surrogate pair": ({**ONE_FIELD, "input": "a \ud800"}, 422, "invalid-input", "half a surrogate pair"),
    "half a pair as a key": ({**ONE_FIELD, "\ud800": 1}, 422, "invalid-input", "the body"),
    "half a pair as a task": ({**ONE_FIELD, "task": "\ud800"}, 404, "unknown-task", "unknown task"),
    "no number": ({**ONE_FIELD, "min_similarity": float("nan")}, 422, "invalid-input", "/min_similarity"),
    "no number in a field": ({**ONE_FIELD, "input": {"text": float("inf")}}, 422, "invalid-input", "/input/text"),
    "exclude is no list": ({**ONE_FIELD, "exclude": "n01"}, 422, "invalid-input", "/exclude"),
    "a key with a slash": ({**ONE_FIELD, "a/b~": 1}, 422, "invalid-input", "/a~1b~0: is not a field"),
    "a key with a newline": ({**ONE_FIELD, "a\nb": 1}, 422, "invalid-input", r"/a\nb: is not a field"),
    "half a pair as a field": ({**ONE_FIELD, "input": {"\ud800": float("nan")}}, 422, "invalid-input", "/input"),
    "a list": ([], 422, "invalid-input", "the body: must be an object"),
    "nothing": (None, 422, "invalid-input", "the body"),
}
PROMPT = {**ONE_FIELD, "budget": 50}
BAD_PROMPTS = {
    "unknown task": ({**PROMPT, "task": "nowhere"}, 404, "unknown-task", "unknown task 'nowhere'"),
    "no budget": (ONE_FIELD, 422, "invalid-input", "/budget: is missing"),
    "budget = 0": ({**PROMPT, "budget": 0}, 422, "invalid-input", "/budget"),
    "budget above the limit": ({**PROMPT, "budget": 10**9}, 422, "invalid-input", "at most 131072 tokens"),
    "reserve < 0": ({**PROMPT, "reserve": -1}, 422, "invalid-input", "/reserve"),
    "nothing left": ({**PROMPT, "reserve": 50}, 422, "invalid-input", "below the budget of 50 tokens, found 50"),
    "too small": ({**PROMPT, "budget": 3}, 413, "too-long", "needs 11 tokens without any demonstration"),
    "unknown format": ({**PROMPT, "format": "xml"}, 422, "invalid-input", "/format: must be 'text', 'messages' or"),
    "k above the pool": ({**PROMPT, "k": 21}, 422, "invalid-input", "k must be from 1 to 20"),
    "100,000 characters": ({**PROMPT, "input": "a" * 100_000}, 413, "too-long", "characters; the limit is 32768"),
    "plain text, two fields": ({**PROMPT, "task": "reviews"}, 422, "invalid-input", "but plain text was given"),
}


def post(service: TestClient, path: str, body: object) -> httpx2.Response:
    return service.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(("body", "status", "name", "detail"), BAD.values(), ids=list(BAD))
def test_a_bad_request_gets_its_problem(service: TestClient, body: Any, status: int, name: str, detail: str) -> None:
    problem = check(post(service, "/v1/retrieve", body), status, name, detail)
    assert problem["instance"] == "/v1/retrieve"


@pytest.mark.parametrize(("body", "status", "name", "detail"), BAD_PROMPTS.values(), ids=list(BAD_PROMPTS))
def test_a_bad_prompt_request_gets_its_problem(
    service: TestClient, body: Any, status: int, name: str, detail: str
) -> None:
    check(post(service, "/v1/prompt", body), status, name, detail)


def test_every_finding_has_its_pointer(service: TestClient) -> None:
    problem = post(service, "/v1/retrieve", {"input": {"text": [1, float("nan")]}, "k": 0, "x": 1}).json()
    assert {finding["pointer"] for finding in problem["errors"]} == {"/input/text/1", "/k", "/x"}


def test_findings_are_few_however_much_is_wrong(service: TestClient) -> None:
    assert len(post(service, "/v1/retrieve", {str(n): n for n in range(1000)}).json()["errors"]) == 16


@pytest.mark.parametrize(
    ("content", "status", "name"),
    [
        (b'{"task": ', 400, "malformed-json"),
        (b"{'task': 1}", 400, "malformed-json"),
        (b'{"input": "\xff\xfe\xff"}', 400, "bad-request"),
        (b'{"k": ' + b"9" * 5000 + b"}", 400, "bad-request"),
        (b'{"input": ' + b"[" * 100_000, 400, "bad-request"),
        (b'{"task": "notes", "input": {"text": ' + b"[" * 400 + b"]" * 400 + b"}}", 422, "invalid-input"),
        (b"", 422, "invalid-input"),
    ],
    ids=["cut short", "not JSON", "not UTF-8", "a huge number", "a deep and open list", "a deep list", "empty"],
)
def test_a_body_that_cannot_be_read_is_the_client_s_fault(
    service: TestClient, content: bytes, status: int, name: str
) -> None:
    answer = service.post("/v1/retrieve", content=content, headers={"Content-Type": "application/json"})
    check(answer, status, name, "")


def test_a_body_of_another_type_is_refused(service: TestClient) -> None:
    answer = service.post("/v1/retrieve", content=json.dumps(ONE_FIELD), headers={"Content-Type": "text/plain"})
    check(answer, 415, "not-json", "Content-Type: application/json")


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_a_body_above_the_limit_is_refused(retriever: Retriever, declared: bool) -> None:
    content = json.dumps({**ONE_FIELD, "input": "a" * 500}).encode()
    with TestClient(create_app(retriever, Settings(max_body_bytes=len(content)), Words())) as client:
        headers = {"Content-Type": "application/json"}
        assert client.post("/v1/retrieve", content=content, headers=headers).status_code == 200
        sent = content + b" " if declared else iter([content, b" "])
        answer = client.post("/v1/retrieve", content=sent, headers=headers)
        check(answer, 413, "body-too-large", f"larger than {len(content)} bytes")
        assert answer.headers["X-Udr-Index-Version"] == retriever.index_version


def test_a_batch_above_the_limit_is_refused(retriever: Retriever) -> None:
    with TestClient(create_app(retriever, Settings(max_batch=2), Words())) as client:
        answer = client.post("/v1/retrieve/batch", json={"requests": [ONE_FIELD] * 3})
        check(answer, 413, "batch-too-large", "has 3 requests; the limit is 2")


@pytest.mark.parametrize(
    ("method", "path", "status", "name", "detail"),
    [
        ("GET", "/v1/nowhere", 404, "not-found", "GET /v1/nowhere"),
        ("GET", "/nowhere", 404, "not-found", "GET /nowhere"),
        ("GET", "/docs", 404, "not-found", "GET /docs"),
        ("GET", "/v1/retrieve", 405, "method-not-allowed", "GET /v1/retrieve"),
        ("DELETE", "/v1/tasks", 405, "method-not-allowed", "DELETE /v1/tasks"),
        ("GET", "/v1/tasks/nowhere", 404, "unknown-task", "unknown task 'nowhere'"),
        ("GET", "/v1/tasks/nowhere/demonstrations/1", 404, "unknown-task", "unknown task 'nowhere'"),
        ("GET", "/v1/tasks/notes/demonstrations/1", 404, "unknown-task", "task 'notes' has no demonstration '1'"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_problem(
    service: TestClient, method: str, path: str, status: int, name: str, detail: str
) -> None:
    answer = service.request(method, path)
    check(answer, status, name, detail)
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("error", [RuntimeError("secret /etc/x"), ArtifactError("secret /etc/x"), KeyError("secret")])
def test_a_failure_of_our_own_tells_nothing(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(plans: object, vectors: object) -> object:
        raise error

    monkeypatch.setattr(retriever, "search", fail)
    with TestClient(create_app(retriever, Settings(), Words())) as client:
        answer = client.post("/v1/retrieve", json=ONE_FIELD)
        check(answer, 500, "internal", "its log says why")
        assert "secret" not in answer.text
        assert answer.headers["X-Udr-Index-Version"] == retriever.index_version
        ready = client.get("/readyz")
        check(ready, 503, "not-ready", "cannot encode and search")
        assert "secret" not in ready.text and ready.headers["Retry-After"] == "1"
        assert client.get("/livez").status_code == 200


def test_the_table_has_no_two_problems_of_one_name_and_no_odd_status() -> None:
    names = [kind.name for kind in KINDS.values()]
    assert len(set(names)) == len(names)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


def test_each_error_of_a_request_is_the_same_class_again_in_the_client() -> None:
    for kind in (errors.UnknownTaskError, errors.InvalidInputError, errors.TooLongError):
        assert PROBLEM_ERRORS[problem_of(kind("x"), "/").type] is kind
    types = {f"{PROBLEM}{kind.name}" for kind in KINDS.values()}
    assert set(PROBLEM_ERRORS) <= types


def test_an_error_that_is_not_a_request_s_is_internal() -> None:
    for error in (UdrError("x"), errors.ModelError("x"), errors.DataError("x"), errors.VerificationError("x")):
        assert problem_of(error, "/").status == 500
