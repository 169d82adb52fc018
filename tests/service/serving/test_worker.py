"""The worker: what waits is one batch, the queue has an end, and one request cannot spoil another's."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from udr.errors import OverloadedError
from udr.retrieval import Plan, RetrievalRequest, Retriever
from udr.search import Vectors
from udr.types import Role
from udr_service import Settings, create_app
from udr_service.serving import Embedding, EncodeJob, JobResult, Worker


class Held:
    """A retriever that encodes when it is let go, and takes its time; remembers each batch that it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.began = threading.Event()
        self.threads: set[str] = set()

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        if texts:
            self.threads.add(threading.current_thread().name)
            self.batches.append(list(texts))
            self.began.set()
            assert self.go.wait(10)
            time.sleep(self.seconds)
            if "poison" in texts:
                raise RuntimeError("poison")
        return np.array([[len(text)] for text in texts], dtype=np.float32).reshape(len(texts), 1)


def asked(*texts: str) -> list[EncodeJob]:
    return [Embedding(text, "query") for text in texts]


def worker(queue_size: int = 8, batch_size: int = 8, batch_tokens: int = 1000) -> Worker:
    return Worker(queue_size=queue_size, batch_size=batch_size, batch_tokens=batch_tokens)


def numbers(done: Sequence[JobResult]) -> list[float]:
    return [float(cast("Vectors", one.result)[0]) for one in done]


async def send(worker: Worker, held: Held, *texts: str) -> "asyncio.Task[list[JobResult]]":
    """Send work and return when the worker has it."""
    task = asyncio.ensure_future(worker.do(cast("Retriever", held), asked(*texts)))
    await asyncio.sleep(0)
    return task


def test_whatever_waits_is_one_batch_and_a_request_alone_does_not_wait() -> None:
    held = Held()

    async def run() -> None:
        one = worker()
        first = await send(one, held, "a")
        await asyncio.to_thread(held.began.wait, 10)
        rest = [await send(one, held, "bb"), await send(one, held, "ccc", "dddd"), await send(one, held, "eeeee")]
        held.go.set()
        done = [piece for task in (first, *rest) for piece in await task]
        assert numbers(done) == [1, 2, 3, 4, 5]
        assert [piece.stages.size for piece in done] == [1, 4, 4, 4, 4]
        one.close()

    asyncio.run(run())
    assert held.batches == [["a"], ["bb", "ccc", "dddd", "eeeee"]]
    assert len(held.threads) == 1, "one thread owns the encoder"


class Searched:
    """A retriever that encodes when it may begin, searches when it is let go, and says what it does meanwhile."""

    def __init__(self) -> None:
        self.begin, self.go, self.encoded = threading.Event(), threading.Event(), threading.Semaphore(0)
        self.searched: list[int] = []

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        assert self.begin.wait(10)
        if texts:
            self.encoded.release()
        return np.zeros((len(texts), 1), dtype=np.float32)

    def search(self, plans: Sequence[Plan], vectors: Mapping[int, Vectors]) -> list[str]:
        assert self.go.wait(10)
        self.searched.append(len(plans))
        if any(plan.text == "poison" for plan in plans):
            raise RuntimeError("poison")
        assert sorted(vectors) == list(range(len(plans)))
        return [plan.text for plan in plans]


def planned(retriever: Retriever, *texts: str) -> list[EncodeJob]:
    """Return plans with these texts; what else a real one has is of no use here."""
    plan = retriever.plan(RetrievalRequest(input="some text", scope="all", k=1))
    return [replace(plan, text=text) for text in texts]


def test_the_next_batch_is_encoded_while_one_is_searched_but_no_third(retriever: Retriever) -> None:
    held = Searched()
    held.begin.set()

    async def run() -> list[JobResult]:
        one = worker(batch_size=1)
        works = planned(retriever, "a", "b", "c")
        done = asyncio.ensure_future(one.do(cast("Retriever", held), works))
        assert await asyncio.to_thread(held.encoded.acquire, True, 10), "the first"
        assert await asyncio.to_thread(held.encoded.acquire, True, 10), "the second, while the first is searched"
        assert not await asyncio.to_thread(held.encoded.acquire, True, 0.2), "the third has to wait"
        held.go.set()
        return await done

    assert [piece.result for piece in asyncio.run(run())] == ["a", "b", "c"]
    assert held.searched == [1, 1, 1]


def test_a_search_that_breaks_the_batch_breaks_only_its_own_request(retriever: Retriever) -> None:
    held = Searched()
    held.go.set()

    async def run() -> list[object]:
        one = worker()
        works = planned(retriever, "before", "a", "poison", "bb")
        tasks = [asyncio.ensure_future(one.do(cast("Retriever", held), [works[0]]))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.ensure_future(one.do(cast("Retriever", held), [work])) for work in works[1:]]
        await asyncio.sleep(0.05)
        held.begin.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    before, first, poison, last = asyncio.run(run())
    assert isinstance(poison, RuntimeError)
    assert [cast("list[JobResult]", one)[0].result for one in (before, first, last)] == ["before", "a", "bb"]
    assert held.searched == [1, 3, 1, 1, 1]
    encodings = [held.encoded.acquire(blocking=False) for _ in range(3)]
    assert encodings == [True, True, False], "what was encoded is not encoded again"


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [({"batch_size": 2}, [2, 2, 1]), ({"batch_tokens": 3}, [3, 2]), ({"batch_tokens": 1}, [1, 1, 1, 1, 1])],
    ids=str,
)
def test_a_batch_is_no_larger_than_its_limits(limits: Mapping[str, int], sizes: list[int]) -> None:
    held = Held()
    held.go.set()
    asyncio.run(worker(**limits).do(cast("Retriever", held), asked("a", "b", "c", "d", "e")))
    assert [len(batch) for batch in held.batches] == sizes


def test_a_text_above_the_limit_of_tokens_goes_alone() -> None:
    held = Held()
    held.go.set()
    asyncio.run(worker(batch_tokens=10).do(cast("Retriever", held), asked("a", "b" * 100, "c")))
    assert [len(batch) for batch in held.batches] == [1, 1, 1]


def test_a_batch_is_for_one_retriever() -> None:
    before, after = Held(), Held()
    before.go.set()
    after.go.set()

    async def run() -> None:
        one = worker()
        tasks = [
            await send(one, held, text)
            for held, text in ((before, "a"), (before, "b"), (after, "c"), (before, "d"), (after, "e"))
        ]
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert [text for batch in before.batches for text in batch] == ["a", "b", "d"]
    assert after.batches == [["c"], ["e"]]


def test_a_full_queue_refuses_a_batch_whole_and_takes_what_fits() -> None:
    held = Held()

    async def run() -> None:
        one = worker(queue_size=3)
        tasks = [await send(one, held, "a")]
        await asyncio.to_thread(held.began.wait, 10)
        tasks.append(await send(one, held, "b", "c"))
        with pytest.raises(OverloadedError, match="2 requests are waiting and 2 more were sent; the limit is 3"):
            await one.do(cast("Retriever", held), asked("d", "e"))
        tasks.append(await send(one, held, "f"))
        held.go.set()
        assert [len(await task) for task in tasks] == [1, 2, 1]

    asyncio.run(run())
    assert held.batches == [["a"], ["b", "c", "f"]]


def test_work_that_breaks_the_batch_breaks_only_itself() -> None:
    held = Held()

    async def run() -> list[object]:
        one = worker()
        tasks = [await send(one, held, "before")]
        await asyncio.to_thread(held.began.wait, 10)
        tasks += [await send(one, held, text) for text in ("a", "poison", "bb")]
        held.go.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    _, first, poison, last = asyncio.run(run())
    assert isinstance(poison, RuntimeError)
    assert [numbers(cast("list[JobResult]", one)) for one in (first, last)] == [[1], [2]]
    assert held.batches == [["before"], ["a", "poison", "bb"], ["a"], ["poison"], ["bb"]]


def test_a_batch_that_broke_says_nothing_of_how_long_others_take() -> None:
    held = Held(seconds=0.02)

    async def run() -> list[JobResult]:
        one = worker(queue_size=32, batch_size=32)
        first = await send(one, held, "before")
        await asyncio.to_thread(held.began.wait, 10)
        rest = await send(one, held, *[str(number) for number in range(19)], "poison")
        held.go.set()
        await asyncio.gather(first, rest, return_exceptions=True)
        while one.waiting or len(held.batches) < 22:
            await asyncio.sleep(0.01)
        # Each alone took 0.02 seconds; the last, 0.4 seconds after the batch had begun.
        again = await send(one, held, "again")
        done = await one.do(cast("Retriever", held), asked("in time"), within=0.2)
        await again
        return done

    assert numbers(asyncio.run(run())) == [len("in time")]


class Panic(BaseException):
    """As those of libraries in Rust are."""


@pytest.mark.parametrize("error", [Panic("at the disco"), StopIteration()], ids=["panic", "stop"])
def test_whatever_is_raised_is_raised_where_it_is_waited_for(error: BaseException) -> None:
    class Broken(Held):
        def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
            raise error

    async def run() -> None:
        one = worker()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=f"broken off by {type(error).__name__}") as raised:
                await one.do(cast("Retriever", Broken()), asked("a", "b"))
            assert raised.value.__cause__ is error

    asyncio.run(asyncio.wait_for(run(), 10))


def test_however_many_come_the_encoder_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held, calls = Held(), list[str]()
    submit = ThreadPoolExecutor.submit

    def counted(executor: ThreadPoolExecutor, work: Any, *arguments: Any) -> Any:
        calls.append(work.__name__)
        return submit(executor, work, *arguments)

    async def run() -> None:
        one = worker()
        monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
        tasks = [await send(one, held, "a")]
        while not held.began.is_set():
            await asyncio.sleep(0.001)
        for text in ("b", "c", "d", "e"):
            tasks.append(await send(one, held, text))
            await asyncio.sleep(0.001)
        held.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert calls.count("_encode_what_waits") == 2, "one in work, and one that comes after it"


def test_closing_drops_what_waits() -> None:
    held = Held()

    async def run() -> list[object]:
        one = worker()
        tasks = [await send(one, held, "a")]
        await asyncio.to_thread(held.began.wait, 10)
        tasks.append(await send(one, held, "b"))
        held.go.set()
        one.close()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await one.do(cast("Retriever", held), asked("c"))
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    done, dropped = asyncio.run(asyncio.wait_for(run(), 10))
    assert numbers(cast("list[JobResult]", done)) == [1]
    assert isinstance(dropped, RuntimeError) and str(dropped) == "the worker has been closed"
    assert held.batches == [["a"]]


def test_nobody_waiting_means_nothing_is_encoded() -> None:
    held = Held()

    async def run() -> None:
        one = worker()
        first = await send(one, held, "a")
        await asyncio.to_thread(held.began.wait, 10)
        gone, stays = await send(one, held, "gone"), await send(one, held, "stays")
        gone.cancel()
        held.go.set()
        await asyncio.gather(first, stays)

    asyncio.run(run())
    assert held.batches == [["a"], ["stays"]]


def test_the_time_in_the_queue_is_told() -> None:
    held = Held()

    async def run() -> list[JobResult]:
        one = worker()
        first = await send(one, held, "a")
        await asyncio.to_thread(held.began.wait, 10)
        second = await send(one, held, "b")
        await asyncio.sleep(0.05)
        held.go.set()
        return [*await first, *await second]

    first, second = asyncio.run(run())
    assert first.waited < 0.05 <= second.waited
    assert first.stages.encode >= 0.05 > second.stages.encode


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


def test_work_that_would_hardly_be_done_in_time_is_refused_at_once() -> None:
    held = Held(seconds=0.05)
    held.go.set()

    async def run() -> None:
        one = worker()
        for number in range(10):
            await one.do(cast("Retriever", held), asked(f"{number}"))
        # With nobody before it, it is tried however little time it has.
        await one.do(cast("Retriever", held), asked("a"), within=0.01)
        held.go.clear()
        waiting = await send(one, held, "a", "bb", "ccc")
        with pytest.raises(OverloadedError, match=r"3 requests come before this one, which would take about \S+ sec"):
            await one.do(cast("Retriever", held), asked("dddd"), within=0.2)
        patient = asyncio.ensure_future(one.do(cast("Retriever", held), asked("eeeee"), within=60))
        held.go.set()
        assert numbers([*await waiting, *await patient]) == [1, 2, 3, 5]

    asyncio.run(run())
