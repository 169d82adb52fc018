"""Answers that are made once for a version, and the room for large ones."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Words
from tests.service.running import running
from udr.errors import OverloadedError
from udr.retrieval import Retriever
from udr_service import Settings, create_app
from udr_service.serving import Preparer, Worker


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/tasks", "tasks at 0"), ("/v1/openapi.json", "openapi"), ("/docs", "docs")]
)
def test_what_a_crowd_asks_for_and_does_not_wait_for_is_made_once(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    made, may_end = list[str](), threading.Event()
    do = Preparer.do

    async def counted(self: Preparer, client: str, work: Callable[[Any], Any]) -> Any:
        def slow(stopped: Any) -> Any:
            may_end.wait(20)
            return work(stopped)

        made.append(client)
        return await do(self, client, slow)

    monkeypatch.setattr(Preparer, "do", counted)
    with running(create_app(retriever, Settings(), Words())) as address, ThreadPoolExecutor() as clients:
        for _ in range(5):
            with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                time.sleep(0.05)
        answers = [clients.submit(httpx2.get, f"{address}{path}", timeout=20) for _ in range(5)]
        time.sleep(0.1)
        may_end.set()
        assert {answer.result().status_code for answer in answers} == {200}
        assert len({answer.result().text for answer in answers}) == 1
    assert made == [name]


def test_an_answer_that_could_not_be_made_is_made_again(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    do = Preparer.do

    async def refused(self: Preparer, client: str, work: Callable[[Any], Any]) -> Any:
        monkeypatch.setattr(Preparer, "do", do)
        raise OverloadedError("too much waits")

    monkeypatch.setattr(Preparer, "do", refused)
    with running(create_app(retriever, Settings(), Words())) as address:
        statuses = [httpx2.get(f"{address}/v1/tasks", timeout=20).status_code for _ in range(2)]
    assert statuses == [429, 200]


def test_as_many_prompts_may_wait_as_the_queue_admits(retriever: Retriever) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Held(Words):
        def count(self, text: str) -> int:
            begun.set()
            assert go_on.wait(60)
            return super().count(text)

    prompt = {"task": "notes", "input": "what a fine monday", "k": 1, "budget": 100}
    with TestClient(create_app(retriever, Settings(), Held())) as client, ThreadPoolExecutor(80) as threads:
        asked = [threads.submit(client.post, "/v1/prompt", json=prompt) for _ in range(80)]
        try:
            assert begun.wait(60)
            # One is being written, and the others wait; none is refused meanwhile.
            assert not wait(asked, 0.5, FIRST_COMPLETED).done
        finally:
            go_on.set()
        assert {answer.result().status_code for answer in asked} == {200}


def test_explanations_have_room_before_they_are_made(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()
    do = Worker.do

    async def slow(self: Worker, active: Retriever, jobs: Any, *more: Any, **options: Any) -> Any:
        if any(job.request.explain for job in jobs):
            begun.set()
            await asyncio.to_thread(may_end.wait, 20)
        return await do(self, active, jobs, *more, **options)

    monkeypatch.setattr(Worker, "do", slow)
    plain = {"task": "notes", "input": "what a fine monday"}
    size = 64 * 1024
    batch = {"requests": [{**plain, "explain": True, "candidates": 1024}] * 64}
    settings = Settings(max_body_bytes=size, max_bodies_bytes=size)
    with running(create_app(retriever, settings, Words())) as address, ThreadPoolExecutor() as clients:

        def post(body: Any, path: str = "/v1/retrieve/batch") -> httpx2.Response:
            return httpx2.post(address + path, json=body, timeout=20)

        first = clients.submit(post, batch)
        assert begun.wait(20)
        refused = post(batch)
        assert refused.status_code == 503 and "Retry-After" in refused.headers
        assert "answers that are made, or that clients have yet to read, take" in refused.text
        assert post(plain, "/v1/retrieve").status_code == 200
        may_end.set()
        assert first.result().status_code == 200
        assert post(batch).status_code == 200
