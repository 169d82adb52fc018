"""The worker: what waits is one batch, the queue has an end, and one request cannot spoil another's."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from udr.encoder import Vectors
from udr.errors import InvalidInputError, OverloadedError
from udr.retriever import Retriever
from udr.types import Retrieval, RetrievalRequest
from udr_service.app import create_app
from udr_service.settings import Settings
from udr_service.worker import Answer, Worker


class Held:
    """A retriever whose answers wait until they are let go; remembers each batch that it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.began = threading.Event()
        self.threads: set[str] = set()

    def answer(self, requests: Sequence[RetrievalRequest]) -> list[Answer]:
        self.threads.add(threading.current_thread().name)
        self.batches.append([str(request.input) for request in requests])
        self.began.set()
        assert self.go.wait(10)
        return [self._answer(str(request.input)) for request in requests]

    def _answer(self, text: str) -> Answer:
        if text == "poison":
            raise RuntimeError("poison")
        if text == "bad":
            return InvalidInputError("bad")
        return Retrieval(demonstrations=(), index_version=text, model="m")


def asked(*texts: str) -> list[RetrievalRequest]:
    return [RetrievalRequest(input=text, scope="all") for text in texts]


def worker(retriever: Held, queue_size: int = 8, batch_size: int = 8) -> Worker:
    return Worker(cast("Retriever", retriever), queue_size=queue_size, batch_size=batch_size)


async def send(worker: Worker, *texts: str) -> "asyncio.Task[list[Answer]]":
    """Send requests and return when the worker has them."""
    task = asyncio.ensure_future(worker.answer(asked(*texts)))
    await asyncio.sleep(0)
    return task


def test_whatever_waits_is_one_batch_and_a_request_alone_does_not_wait() -> None:
    held = Held()

    async def run() -> None:
        one = worker(held)
        first = await send(one, "a")
        await asyncio.to_thread(held.began.wait, 10)
        rest = [await send(one, "b"), await send(one, "c", "d"), await send(one, "e")]
        held.go.set()
        answers = [answer for task in (first, *rest) for answer in await task]
        assert [cast("Retrieval", answer).index_version for answer in answers] == ["a", "b", "c", "d", "e"]
        one.close()

    asyncio.run(run())
    assert held.batches == [["a"], ["b", "c", "d", "e"]]
    assert len(held.threads) == 1, "one thread owns the encoder"


def test_a_batch_is_no_larger_than_its_limit() -> None:
    held = Held()
    held.go.set()
    asyncio.run(worker(held, batch_size=2).answer(asked("a", "b", "c", "d", "e")))
    assert [len(batch) for batch in held.batches] == [2, 2, 1]


def test_a_full_queue_refuses_a_batch_whole_and_takes_what_fits() -> None:
    held = Held()

    async def run() -> None:
        one = worker(held, queue_size=3)
        tasks = [await send(one, "a")]
        await asyncio.to_thread(held.began.wait, 10)
        tasks.append(await send(one, "b", "c"))
        with pytest.raises(OverloadedError, match="2 requests are waiting and 2 more were sent; the limit is 3"):
            await one.answer(asked("d", "e"))
        tasks.append(await send(one, "f"))
        held.go.set()
        assert [len(await task) for task in tasks] == [1, 2, 1]

    asyncio.run(run())
    assert held.batches == [["a"], ["b", "c", "f"]]


def test_a_request_that_cannot_be_answered_leaves_the_others_alone() -> None:
    held = Held()
    held.go.set()
    first, bad, last = asyncio.run(worker(held).answer(asked("a", "bad", "b")))
    assert isinstance(bad, InvalidInputError)
    assert [cast("Retrieval", answer).index_version for answer in (first, last)] == ["a", "b"]


def test_a_request_that_breaks_the_batch_breaks_only_itself() -> None:
    held = Held()
    held.go.set()

    async def run() -> list[object]:
        one = worker(held)
        tasks = [await send(one, text) for text in ("a", "poison", "b")]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    first, poison, last = asyncio.run(run())
    assert isinstance(poison, RuntimeError)
    assert [cast("list[Retrieval]", one)[0].index_version for one in (first, last)] == ["a", "b"]


def test_nobody_waiting_means_nothing_is_encoded() -> None:
    held = Held()

    async def run() -> None:
        one = worker(held)
        first = await send(one, "a")
        await asyncio.to_thread(held.began.wait, 10)
        gone, stays = await send(one, "gone"), await send(one, "stays")
        gone.cancel()
        held.go.set()
        await asyncio.gather(first, stays)

    asyncio.run(run())
    assert held.batches == [["a"], ["stays"]]


class SlowEncoder(HashEncoder):
    """Encodes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.began = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.began.set()
        assert self.go.wait(10)
        return super().encode_queries(texts)


BODY: dict[str, Any] = {"task": "notes", "input": "a dull day", "k": 1}


def test_a_slow_encoder_does_not_hold_up_the_event_loop(index: Any) -> None:
    slow = SlowEncoder()
    with Retriever.open(index, encoder=slow) as retriever, ThreadPoolExecutor(1) as threads:
        with TestClient(create_app(retriever, Settings(), Words())) as client:
            retrieval = threads.submit(client.post, "/v1/retrieve", json=BODY)
            assert slow.began.wait(10)
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/tasks/notes/demonstrations/n01").status_code == 200
            assert not retrieval.done()
            slow.go.set()
            assert retrieval.result().status_code == 200


def test_a_full_queue_is_429_with_retry_after_and_those_before_are_answered(index: Any) -> None:
    slow = SlowEncoder()
    with Retriever.open(index, encoder=slow) as retriever, ThreadPoolExecutor(3) as threads:
        with TestClient(create_app(retriever, Settings(queue_size=1, max_batch=1), Words())) as client:
            first = threads.submit(client.post, "/v1/retrieve", json=BODY)
            assert slow.began.wait(10)
            # One of these waits, and the other finds the queue full.
            others = [threads.submit(client.post, "/v1/retrieve", json=BODY) for _ in range(2)]
            done, _ = wait(others, timeout=10, return_when=FIRST_COMPLETED)
            refused = done.pop().result()
            slow.go.set()
            assert sorted(other.result().status_code for other in others) == [200, 429]
            assert first.result().status_code == 200
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:udr:problem:overloaded"


def test_answers_under_load_are_those_of_requests_alone(index: Any) -> None:
    texts = [f"a dull {day} with {thing}" for day in ("monday", "friday") for thing in ("lamp", "chair", "kettle")] * 6
    with Retriever.open(index, encoder=HashEncoder()) as retriever, ThreadPoolExecutor(12) as threads:
        alone = {text: retriever.retrieve(family="mood", input=text, k=6).to_json() for text in texts}
        with TestClient(create_app(retriever, Settings(), Words())) as client:
            bodies = [{"family": "mood", "input": text, "k": 6} for text in texts]
            answers = list(threads.map(lambda body: client.post("/v1/retrieve", json=body).json(), bodies))
    assert answers == [alone[text] for text in texts]
