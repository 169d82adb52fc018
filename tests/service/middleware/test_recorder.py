"""The middleware: request ids, timings, metrics and log lines; deadlines, bodies, clients, keys and origins."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from tests.service.conftest import BODY, HeldEncoder, Words, on_event_loop, served
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key


def test_an_answer_names_the_time_of_each_stage(service: TestClient) -> None:
    timing = service.post("/v1/retrieve", json=BODY).headers["Server-Timing"]
    stages = {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", timing)}
    assert list(stages) == ["queue", "encode", "search", "total"]
    total = stages.pop("total")
    assert 0 <= sum(stages.values()) <= total
    assert re.findall(r"(\w+);", service.get("/v1/info").headers["Server-Timing"]) == ["total"]
    assert "Server-Timing" not in service.get("/livez").headers


def test_metrics_count_answers(service: TestClient) -> None:
    service.post("/v1/retrieve", json=BODY)
    service.post("/v1/retrieve", json={**BODY, "task": "reviews"})
    service.post("/v1/retrieve/batch", json={"requests": [BODY, {"scope": "all", "input": "x"}, {**BODY, "task": "?"}]})
    service.get("/v1/tasks/notes/demonstrations/n01")
    service.get("/secret")
    metrics = service.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    expected = {
        'udr_requests_total{route="/v1/retrieve",status="200"} 1.0',
        'udr_requests_total{route="/v1/tasks/{task}/demonstrations/{id:row}",status="200"} 1.0',
        'udr_requests_total{route="other",status="404"} 1.0',
        'udr_task_answers_total{task="notes"} 2.0',
        *("udr_batch_size_count 2.0", "udr_batch_size_sum 3.0", "udr_queue_length 0.0"),
        'udr_stage_seconds_count{stage="encode"} 2.0',
    }
    assert expected <= set(metrics.text.splitlines())
    assert "secret" not in metrics.text and "dull" not in metrics.text


def test_a_request_is_one_log_line_without_its_text(service: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="udr_service.requests"):
        body, named = {**BODY, "input": "very secret"}, {"X-Request-Id": "r1"}
        kept = service.post("/v1/retrieve", json=body, headers=named).headers["X-Request-Id"]
        new = service.request("SECRET", "/secret", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert kept == "r1" and re.fullmatch("[0-9a-f]{32}", new)
    first, second = (vars(record) for record in caplog.records if record.name == "udr_service.requests")
    names = ("request_id", "route", "status", "method", "batch_size", "queue_size", "key_name")
    assert [first[name] for name in names] == ["r1", "/v1/retrieve", 200, "POST", 1, 0, None]
    assert set(first["stages_ms"]) == {"queue", "encode", "search"} and first["duration_ms"] > 0
    assert [second[name] for name in names[1:5]] == [None, 404, "other", None]
    assert "secret" not in str(first) + str(second).lower()


# Deadlines


def test_the_timeout_header_and_the_setting_limit_a_request(held: tuple[Retriever, HeldEncoder]) -> None:
    retriever, encoder = held
    with served(retriever, timeout_seconds=0.5) as client:
        # The first job has started; the others, which nobody awaits any more, never start.
        own, limit = "seconds; raise the header X-Udr-Timeout,", "seconds, the limit of this service (timeout_seconds);"
        for header, seconds, advice in (("0.05", "0.05", own), ("0.05", "0.05", own), ("60", "0.5", limit)):
            answer = client.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": header})
            assert (answer.status_code, answer.json()["type"]) == (504, "urn:udr:problem:deadline-exceeded")
            assert f"no answer within {seconds} {advice}" in answer.json()["detail"]
        encoder.go.set()
        assert client.post("/v1/retrieve", json={**BODY, "input": "another"}).status_code == 200
        assert len(encoder.queries) == 2
        assert 'udr_refused_total{reason="deadline"} 3.0' in client.get("/metrics").text


@pytest.mark.parametrize("header", ["", "soon", "0", "-1", "nan"])
def test_an_invalid_timeout_header_is_refused(service: TestClient, header: str) -> None:
    answer = service.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": header})
    assert answer.status_code == 422
    assert "X-Udr-Timeout must be a number of seconds above 0" in answer.json()["detail"]


# Bodies and clients


async def post(app: Any, *parts: bytes, whole: bool = True, leaves: asyncio.Event | None = None) -> list[Message]:
    """Send a body in parts, as a server does, and disconnect once ``leaves`` is set; return what was sent back."""
    sent = list[Message]()
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = not whole
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/retrieve", "query_string": b"", "headers": headers}

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@on_event_loop
async def test_a_body_in_parts_is_read_whole_and_limited(retriever: Retriever) -> None:
    body = json.dumps(BODY).encode()
    answer = await post(create_app(retriever, Settings(), Words()), body[:5], b"", body[5:])
    refused = await post(create_app(retriever, Settings(max_body_bytes=10), Words()), b"12345", b"678901", b"x")
    assert (answer[0]["status"], refused[0]["status"]) == (200, 413) and b"body-too-large" in refused[1]["body"]


@on_event_loop
async def test_clients_that_disconnect_get_no_answer_and_cost_nothing(held: tuple[Retriever, HeldEncoder]) -> None:
    retriever, encoder = held
    app, leaves = create_app(retriever, Settings(), Words()), asyncio.Event()

    def send(text: str, **options: Any) -> "asyncio.Task[list[Message]]":
        return asyncio.create_task(post(app, json.dumps({**BODY, "input": text}).encode(), **options))

    first = send("first")
    await asyncio.to_thread(encoder.started.wait, 10)
    gone = [send("gone", leaves=leaves), send("incomplete", leaves=leaves, whole=False)]
    last = send("last")
    await asyncio.sleep(0.05)
    leaves.set()
    assert await asyncio.gather(*gone) == [[], []]
    encoder.go.set()
    assert [(await task)[0]["status"] for task in (first, last)] == [200, 200]
    assert [text.rpartition("\n")[2] for text in encoder.queries] == ["Note: first", "Note: last"]


# Keys and origins


def test_each_path_needs_its_scope_and_no_key_is_shown(
    retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    keys = {None: None, "udr_wrong": "udr_wrong"}
    for scope in Scope:
        keys[scope], entry = new_key(f"{scope}er", scope)
        append(path, entry)
    with caplog.at_level(logging.DEBUG), served(retriever, keys=path) as client:

        def statuses(method: str, path: str) -> list[int]:
            headers = [{} if key is None else {"Authorization": f"Bearer {key}"} for key in keys.values()]
            return [client.request(method, path, headers=each).status_code for each in headers]

        for open_path in ("/livez", "/readyz", "/v1/openapi.json"):
            assert statuses("GET", open_path) == [200] * 5
        assert statuses("GET", "/v1/info") == [401, 401, 200, 200, 200]
        assert statuses("DELETE", "/v1/tasks/notes/demonstrations/x") == [401, 401, 403, 404, 404]
        assert statuses("GET", "/metrics") == [401, 401, 403, 403, 200]
        assert statuses("POST", "/v1/admin/reload") == [401, 401, 403, 403, 409]
        reload = client.post("/v1/admin/reload", headers={"X-Api-Key": str(keys["admin"])})
        none = client.post("/v1/retrieve", json=BODY)
        wrong = client.post("/v1/retrieve", json=BODY, headers={"X-Api-Key": "udr_wrong"})
        metrics = client.get("/metrics", headers={"X-Api-Key": str(keys["admin"])})
    assert "started with an open index" in reload.json()["detail"]
    assert none.headers["WWW-Authenticate"] == "Bearer"
    assert none.json()["type"] == "urn:udr:problem:unauthorized"
    assert "has none" in none.json()["detail"] and "is unknown" in wrong.json()["detail"]
    records = [vars(record) for record in caplog.records if record.name.startswith("udr")]
    shown = none.text + wrong.text + metrics.text + str(records)
    assert not [key for key in keys.values() if key and key in shown]
    assert {"reader", "adminer"} <= {record.get("key_name") for record in records}


def test_only_listed_origins_may_call_from_a_browser(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed(client: TestClient, origin: str) -> str | None:
        return client.get("/v1/info", headers={"Origin": origin}).headers.get("Access-Control-Allow-Origin")

    with served(retriever) as client:
        assert allowed(client, "https://page.example") is None
    with served(retriever, cors_origins=("https://page.example",)) as client:
        assert allowed(client, "https://page.example") == "https://page.example"
        assert allowed(client, "https://x.example") is None
        # A page reads an error, and what its headers say, only with these.
        monkeypatch.setattr(retriever, "search", lambda plans, vectors: 1 / 0)
        for path, body, status in (("/v1/retrieve", BODY, 500), ("/v1/retrieve", "{", 422), ("/v1/nothing", {}, 404)):
            error = client.post(path, json=body, headers={"Origin": "https://page.example"})
            assert error.status_code == status
            assert error.headers["Access-Control-Allow-Origin"] == "https://page.example"
            exposed = set(error.headers["Access-Control-Expose-Headers"].split(", "))
            assert exposed == {
                "ETag",
                "Retry-After",
                "Server-Timing",
                "X-Request-Id",
                "X-Udr-Demonstrations",
                "X-Udr-Prompt-Id",
                "X-Udr-Index-Version",
                "X-Udr-Overlay-Position",
                "X-Udr-Task",
                "X-Udr-Tokens",
            }
