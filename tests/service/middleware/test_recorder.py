"""What every request passes: its name, its time, its key, its deadline, its body and its client."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from tests.service.serving.test_worker import SlowEncoder
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.auth import Scope, append, new_key

BODY: dict[str, Any] = {"task": "notes", "input": "a dull day", "k": 1}


def test_a_request_has_a_name(service: TestClient) -> None:
    given = service.post("/v1/retrieve", json=BODY, headers={"X-Request-Id": "mine-1"})
    assert given.headers["X-Request-Id"] == "mine-1"
    made = [
        service.get("/livez", headers={"X-Request-Id": bad}).headers["X-Request-Id"] for bad in ("", "a b", "x" * 129)
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in made) and len(set(made)) == 3


def test_an_answer_tells_the_time_of_each_stage(service: TestClient) -> None:
    timing = service.post("/v1/retrieve", json=BODY).headers["Server-Timing"]
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", timing))
    assert list(stages) == ["queue", "encode", "search", "total"]
    parts = [float(stages[name]) for name in ("queue", "encode", "search")]
    assert 0 <= sum(parts) <= float(stages["total"])
    assert list(re.findall(r"(\w+);", service.get("/v1/info").headers["Server-Timing"])) == ["total"]
    assert "Server-Timing" not in service.get("/livez").headers


def test_the_metrics_count_what_was_answered(service: TestClient) -> None:
    service.post("/v1/retrieve", json=BODY)
    service.post("/v1/retrieve", json={**BODY, "task": "reviews"})
    service.post("/v1/retrieve/batch", json={"requests": [BODY, {"scope": "all", "input": "x"}, {**BODY, "task": "?"}]})
    service.get("/v1/tasks/notes/demonstrations/n01")
    service.get("/secret")
    shown = service.get("/metrics")
    assert shown.headers["Content-Type"].startswith("text/plain")
    for line in (
        'udr_requests_total{route="/v1/retrieve",status="200"} 1.0',
        'udr_requests_total{route="/v1/retrieve",status="422"} 1.0',
        'udr_requests_total{route="/v1/tasks/{task}/demonstrations/{id:path}",status="200"} 1.0',
        'udr_requests_total{route="other",status="404"} 1.0',
        'udr_task_answers_total{task="notes"} 2.0',
        'udr_task_answers_total{task="other"} 1.0',
        "udr_batch_size_count 2.0",
        "udr_batch_size_sum 3.0",
        'udr_stage_seconds_count{stage="encode"} 2.0',
        "udr_queue_length 0.0",
    ):
        assert line in shown.text.splitlines(), line
    assert "secret" not in shown.text and "dull" not in shown.text


def test_a_request_is_one_line_in_the_log_and_no_text_is_in_it(
    service: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="udr_service.requests"):
        service.post("/v1/retrieve", json={**BODY, "input": "very secret"}, headers={"X-Request-Id": "r1"})
    (record,) = (record for record in caplog.records if record.name == "udr_service.requests")
    said = vars(record)
    assert (said["request_id"], said["route"], said["status"], said["method"]) == ("r1", "/v1/retrieve", 200, "POST")
    assert said["batch_size"] == 1 and set(said["stages_ms"]) == {"queue", "encode", "search"}
    assert "secret" not in str(said)


# Deadlines


@pytest.fixture
def slow(index: Path) -> Iterator[tuple[TestClient, SlowEncoder]]:
    """A service whose encoder waits until it is let go."""
    encoder = SlowEncoder()
    with Retriever.open(index, encoder=encoder) as retriever:
        with TestClient(create_app(retriever, Settings(timeout_seconds=5), Words())) as client:
            yield client, encoder
            encoder.go.set()


def test_a_request_gets_no_more_time_than_it_asked_for(slow: tuple[TestClient, SlowEncoder]) -> None:
    client, encoder = slow
    answer = client.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": "0.05"})
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:udr:problem:deadline-exceeded")
    assert "no answer within 0.05 seconds" in answer.json()["detail"]
    # Its work had begun; of what comes now, what nobody waits for is never begun.
    assert client.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": "0.05"}).status_code == 504
    encoder.go.set()
    assert client.post("/v1/retrieve", json={**BODY, "input": "another"}).status_code == 200
    assert len(encoder.queries) == 2
    assert 'udr_refused_total{reason="deadline"} 2.0' in client.get("/metrics").text


def test_a_request_gets_no_more_time_than_the_service_gives(index: Path) -> None:
    encoder = SlowEncoder()
    with Retriever.open(index, encoder=encoder) as retriever:
        with TestClient(create_app(retriever, Settings(timeout_seconds=0.05), Words())) as client:
            answer = client.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": "60"})
            encoder.go.set()
    assert answer.status_code == 504


@pytest.mark.parametrize("said", ["", "soon", "0", "-1", "nan"])
def test_a_deadline_that_is_none_is_refused(service: TestClient, said: str) -> None:
    answer = service.post("/v1/retrieve", json=BODY, headers={"X-Udr-Timeout": said})
    assert answer.status_code == 422
    assert "X-Udr-Timeout must be a number of seconds above 0" in answer.json()["detail"]


# Bodies and clients


async def ask(app: Any, messages: list[Message], hold: Callable[[], Any] | None = None) -> list[Message]:
    """Send a request as a server does, and return what was sent back."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/retrieve",
        "raw_path": b"/v1/retrieve",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if hold is not None:
            await hold()
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError("nobody should wait so long")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_is_read_whole(retriever: Retriever) -> None:
    body = json.dumps(BODY).encode()
    app = create_app(retriever, Settings(), Words())
    sent = asyncio.run(ask(app, [part(body[:5], True), part(b"", True), part(body[5:], False)]))
    assert sent[0]["status"] == 200


def test_a_body_that_declares_no_length_is_refused_when_it_is_too_large(retriever: Retriever) -> None:
    app = create_app(retriever, Settings(max_body_bytes=10), Words())
    sent = asyncio.run(ask(app, [part(b"12345", True), part(b"678901", True), part(b"x", False)]))
    assert sent[0]["status"] == 413
    assert b"body-too-large" in sent[1]["body"]


def test_a_client_that_leaves_before_its_body_is_whole_gets_no_answer(retriever: Retriever) -> None:
    app = create_app(retriever, Settings(), Words())
    assert asyncio.run(ask(app, [part(b"{", True), {"type": "http.disconnect"}])) == []


def test_a_client_that_hangs_up_is_not_worked_for(index: Path) -> None:
    encoder = SlowEncoder()

    async def run(app: Any) -> list[list[Message]]:
        def asked(text: str) -> list[Message]:
            return [part(json.dumps({**BODY, "input": text}).encode(), False)]

        first = asyncio.create_task(ask(app, asked("first")))
        await asyncio.to_thread(encoder.began.wait, 10)
        leaves = asyncio.Event()
        gone = asyncio.create_task(ask(app, asked("gone"), leaves.wait))
        stays = asyncio.create_task(ask(app, asked("stays")))
        await asyncio.sleep(0.05)
        leaves.set()
        await gone
        encoder.go.set()
        return [await first, await gone, await stays]

    with Retriever.open(index, encoder=encoder) as retriever:
        first, gone, stays = asyncio.run(run(create_app(retriever, Settings(), Words())))
    assert (first[0]["status"], gone, stays[0]["status"]) == (200, [], 200)
    assert [text.rpartition("\n")[2] for text in encoder.queries] == ["Note: first", "Note: stays"]


# Keys


@pytest.fixture
def keyed(retriever: Retriever, tmp_path: Path) -> Iterator[tuple[TestClient, Mapping[str, str], Path]]:
    """A service that asks for keys; the keys by scope, and their file."""
    path = tmp_path / "keys.toml"
    keys = {}
    for scope in Scope:
        keys[str(scope)], entry = new_key(f"{scope}er", scope)
        append(path, entry)
    with TestClient(create_app(retriever, Settings(keys=path), Words())) as client:
        yield client, keys, path


def status(client: TestClient, method: str, path: str, key: str | None = None) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer: httpx2.Response = client.request(method, path, headers=headers)
    return answer.status_code


def test_each_path_asks_for_its_scope(keyed: tuple[TestClient, Mapping[str, str], Path]) -> None:
    client, keys, _ = keyed
    for path in ("/livez", "/readyz", "/v1/openapi.json"):
        assert status(client, "GET", path) == 200
    assert [status(client, "GET", "/v1/info", key) for key in (None, "udr_x", keys["read"], keys["admin"])] == [
        401,
        401,
        200,
        200,
    ]
    for method, path in (("GET", "/metrics"), ("POST", "/v1/admin/reload")):
        assert [status(client, method, path, key) for key in (None, keys["read"])] == [401, 403]
    assert status(client, "GET", "/metrics", keys["admin"]) == 200
    assert status(client, "POST", "/v1/admin/reload", keys["admin"]) == 409, "there is nothing to reload from"


def test_who_is_refused_is_told_how_and_no_key_is_shown(
    keyed: tuple[TestClient, Mapping[str, str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    client, keys, _ = keyed
    with caplog.at_level(logging.DEBUG):
        none = client.post("/v1/retrieve", json=BODY)
        wrong = client.post("/v1/retrieve", json=BODY, headers={"X-Api-Key": "udr_wrong"})
        right = client.post("/v1/retrieve", json=BODY, headers={"X-Api-Key": keys["read"]})
    assert none.headers["WWW-Authenticate"] == "Bearer"
    assert none.json()["type"] == "urn:udr:problem:unauthorized"
    assert "none was given" in none.json()["detail"] and "not known" in wrong.json()["detail"]
    assert right.status_code == 200
    shown = [none.text, wrong.text, client.get("/metrics", headers={"X-Api-Key": keys["admin"]}).text]
    shown += [str(vars(record)) for record in caplog.records if record.name.startswith("udr")]
    assert not [text for text in shown if "udr_wrong" in text or any(key in text for key in keys.values())]
    names = [vars(record).get("key_name") for record in caplog.records if record.name == "udr_service.requests"]
    assert "reader" in names


# Browsers


def test_no_other_page_may_ask_unless_it_is_named(retriever: Retriever) -> None:
    origin = {"Origin": "https://page.example"}
    with TestClient(create_app(retriever, Settings(), Words())) as client:
        assert "Access-Control-Allow-Origin" not in client.get("/v1/info", headers=origin).headers
    named = Settings(cors_origins=("https://page.example",))
    with TestClient(create_app(retriever, named, Words())) as client:
        answer = client.get("/v1/info", headers=origin)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert (
            "Access-Control-Allow-Origin" not in client.get("/v1/info", headers={"Origin": "https://x.example"}).headers
        )


def test_the_encoder_is_asked_once_for_equal_texts(retriever: Retriever, encoder: HashEncoder) -> None:
    with TestClient(create_app(retriever, Settings(), Words())) as client:
        client.post("/v1/retrieve/batch", json={"requests": [BODY, {**BODY, "k": 3}]})
    assert len(encoder.queries) == 2, "an open retriever has no cache"
