"""The worker: whatever waits is one batch, the queue is bounded, and a failing job affects no other."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from tests.service.conftest import BODY, HeldEncoder, on_event_loop, served
from udr.errors import OverloadedError
from udr.retrieval import Plan, RetrievalRequest, Retriever
from udr.search import Vectors
from udr.types import Role
from udr_service.auth import Allowance
from udr_service.errors import ClientLimitError
from udr_service.serving import Client, Embedding, EncodeJob, JobResult, Worker


class FakeRetriever:
    """Encodes once ``go`` is set and searches once ``search_go`` is set; remembers its batches."""

    def __init__(self, *, waits: bool = True, seconds: float = 0.0) -> None:
        self.seconds, self.batches, self.searches = seconds, list[list[str]](), list[int]()
        self.go, self.search_go, self.started = threading.Event(), threading.Event(), threading.Event()
        self.encoded = threading.Semaphore(0)
        self.threads = set[str]()
        self.search_go.set()
        if not waits:
            self.go.set()

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        if texts:
            self.threads.add(threading.current_thread().name)
            self.batches.append(list(texts))
            self.started.set()
            assert self.go.wait(120)
            time.sleep(self.seconds)
            if "poison" in texts:
                raise RuntimeError("poison")
            self.encoded.release()
        return np.array([[len(text)] for text in texts], dtype=np.float32).reshape(len(texts), 1)

    encode_each: Any = Retriever.encode_each

    def search(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        copies: object,
        fields: object,
        *,
        stopped: Callable[[int], bool],
    ) -> list[str]:
        assert self.search_go.wait(120)
        self.searches.append(len(plans))
        if any(plan.text == "unsearchable" for plan in plans):
            raise RuntimeError("unsearchable")
        assert sorted(vectors) == list(range(len(plans)))
        return [plan.text for plan in plans]


def worker(queue_size: int = 8, batch_size: int = 8, batch_tokens: int = 1000) -> Worker:
    return Worker(queue_size=queue_size, batch_size=batch_size, batch_tokens=batch_tokens)


def do(worker: Worker, fake: FakeRetriever, jobs: Sequence[EncodeJob | str], **options: Any) -> Any:
    """Run jobs; a text is embedded."""
    jobs = [Embedding(job, "query") if isinstance(job, str) else job for job in jobs]
    return worker.do(cast("Retriever", fake), cast("Sequence[EncodeJob]", jobs), **options)


async def send(worker: Worker, fake: FakeRetriever, *jobs: EncodeJob | str) -> "asyncio.Task[list[JobResult]]":
    """Return once the jobs are queued."""
    task: asyncio.Task[list[JobResult]] = asyncio.ensure_future(do(worker, fake, jobs))
    await asyncio.sleep(0)
    return task


async def send_first(worker: Worker, fake: FakeRetriever, job: EncodeJob | str) -> "asyncio.Task[list[JobResult]]":
    """Return once the encoder is busy with this job."""
    task = await send(worker, fake, job)
    await asyncio.to_thread(fake.started.wait, 120)
    return task


def numbers(results: Sequence[JobResult]) -> list[float]:
    return [float(cast("Vectors", result.result)[0]) for result in results]


def plans(retriever: Retriever, *texts: str) -> list[EncodeJob]:
    plan = retriever.plan(RetrievalRequest(input="some text", scope="all", k=1))
    return [replace(plan, text=text) for text in texts]


@on_event_loop
async def test_whatever_waits_is_one_batch_and_a_single_job_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, queue, calls, submit = FakeRetriever(), worker(), list[str](), ThreadPoolExecutor.submit

    def counted(executor: ThreadPoolExecutor, call: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(getattr(call, "__name__", ""))
        return submit(executor, call, *arguments, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    tasks = [await send_first(queue, fake, "a")]
    tasks += [await send(queue, fake, *texts) for texts in (["bb"], ["ccc", "dddd"], ["eeeee"])]
    await asyncio.sleep(0.4)
    fake.go.set()
    results = [result for task in tasks for result in await task]
    assert numbers(results) == [1, 2, 3, 4, 5]
    assert [result.batch.size for result in results] == [1, 4, 4, 4, 4]
    assert results[0].waited < 0.35 <= results[1].waited
    assert results[0].batch.encode >= 0.35 > results[1].batch.encode
    assert fake.batches == [["a"], ["bb", "ccc", "dddd", "eeeee"]]
    assert len(fake.threads) == 1, "one thread owns the encoder"
    assert calls.count("_encode_queue") == 2, "one call for the first job, one for all that came later"


@on_event_loop
async def test_a_crowd_that_is_started_over_several_turns_is_one_batch() -> None:
    fake, queue = FakeRetriever(waits=False), worker(queue_size=64, batch_size=64)
    tasks = []
    for _ in range(4):
        tasks += [asyncio.ensure_future(do(queue, fake, ["a"])) for _ in range(8)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in fake.batches] == [32]


@on_event_loop
async def test_one_batch_is_encoded_while_another_is_searched(retriever: Retriever) -> None:
    fake = FakeRetriever(waits=False)
    fake.search_go.clear()
    task = await send(worker(batch_size=1), fake, *plans(retriever, "a", "b", "c"))
    acquired = [await asyncio.to_thread(fake.encoded.acquire, True, seconds) for seconds in (10, 10, 0.1)]
    assert acquired == [True, True, False], "the third waits for the first search"
    fake.search_go.set()
    assert [result.result for result in await task] == ["a", "b", "c"]
    assert fake.searches == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "batches", "searches"),
    [("unsearchable", [1, 3], [1, 3, 1, 1, 1]), ("poison", [1, 3, 1, 1, 1], [1, 1, 1])],
)
@on_event_loop
async def test_a_job_that_fails_fails_alone(
    retriever: Retriever, text: str, batches: list[int], searches: list[int]
) -> None:
    fake, queue = FakeRetriever(), worker()
    jobs = plans(retriever, "before", "a", text, "bb")
    tasks = [await send_first(queue, fake, jobs[0])]
    tasks += [await send(queue, fake, job) for job in jobs[1:]]
    fake.go.set()
    before, first, failed, last = cast("list[Any]", await asyncio.gather(*tasks, return_exceptions=True))
    assert isinstance(failed, RuntimeError)
    assert [results[0].result for results in (before, first, last)] == ["before", "a", "bb"]
    assert (list(map(len, fake.batches)), fake.searches) == (batches, searches)


@pytest.mark.parametrize(
    ("limits", "texts", "sizes"),
    [
        ({"batch_size": 2}, ["a", "b", "c", "d", "e"], [2, 2, 1]),
        ({"batch_tokens": 3}, ["a", "b", "c", "d", "e"], [3, 2]),
        ({"batch_tokens": 10}, ["a", "b" * 100, "c"], [1, 1, 1]),
    ],
    ids=str,
)
@on_event_loop
async def test_batches_respect_their_limits(limits: Mapping[str, int], texts: list[str], sizes: list[int]) -> None:
    fake = FakeRetriever(waits=False)
    await do(worker(**limits), fake, texts)
    assert [len(batch) for batch in fake.batches] == sizes


@on_event_loop
async def test_a_batch_is_for_one_retriever() -> None:
    before, after, queue = FakeRetriever(waits=False), FakeRetriever(waits=False), worker()
    order = ((before, "a"), (before, "b"), (after, "c"), (before, "d"), (after, "e"))
    await asyncio.gather(*[await send(queue, fake, text) for fake, text in order])
    assert [text for batch in before.batches for text in batch] == ["a", "b", "d"]
    assert after.batches == [["c"], ["e"]]


@on_event_loop
async def test_a_full_queue_refuses_a_whole_batch_and_takes_what_fits() -> None:
    fake, queue = FakeRetriever(), worker(queue_size=3)
    tasks = [await send_first(queue, fake, "a"), await send(queue, fake, "b", "c")]
    with pytest.raises(OverloadedError, match="cost as much as 2 plain queries, and this one 2; the limit is 3"):
        await do(queue, fake, ["d", "e"])
    tasks.append(await send(queue, fake, "f"))
    fake.go.set()
    assert [len(await task) for task in tasks] == [1, 2, 1]
    assert fake.batches == [["a"], ["b", "c", "f"]]


@on_event_loop
async def test_one_request_beyond_its_clients_share_keeps_no_other_client_out() -> None:
    fake, queue, large = FakeRetriever(), worker(queue_size=8), Client("large", Allowance(queue_share=0.5))
    tasks = [await send_first(queue, fake, "a")]
    tasks.append(asyncio.ensure_future(do(queue, fake, list("bcdefghi"), client=large)))
    await asyncio.sleep(0)
    queue.refuse_if_full()
    with pytest.raises(ClientLimitError):
        await do(queue, fake, ["j"], client=large)
    tasks.append(await send(queue, fake, *"klmn"))
    with pytest.raises(OverloadedError, match="queue is full"):
        queue.refuse_if_full()
    fake.go.set()
    assert [len(await task) for task in tasks] == [1, 8, 4]
    assert queue.waiting_cost == 0
    tasks = [await send(queue, fake, *"opqrstuv")]
    with pytest.raises(OverloadedError):
        await do(queue, fake, ["w"])


@on_event_loop
async def test_a_job_that_would_miss_its_deadline_is_refused() -> None:
    fake, queue = FakeRetriever(waits=False, seconds=0.02), worker()
    for number in range(10):
        await do(queue, fake, [f"{number}"])
    # With nothing before it, a job is tried, however little time it has.
    await do(queue, fake, ["a"], within=0.01)
    fake.go.clear()
    waiting = await send(queue, fake, "a", "bb", "ccc")
    with pytest.raises(OverloadedError, match=r"as 3 plain queries, so this request would take about \S+ sec"):
        await do(queue, fake, ["dddd"], within=0.08)
    patient = asyncio.ensure_future(do(queue, fake, ["eeeee"], within=60))
    fake.go.set()
    assert numbers([*await waiting, *await patient]) == [1, 2, 3, 5]


@on_event_loop
async def test_a_failed_batch_does_not_slow_the_estimated_pace() -> None:
    fake, queue = FakeRetriever(seconds=0.03), worker(queue_size=32, batch_size=32)
    first = await send_first(queue, fake, "before")
    rest = await send(queue, fake, *[str(number) for number in range(19)], "poison")
    fake.go.set()
    await asyncio.gather(first, rest, return_exceptions=True)
    while queue.waiting or len(fake.batches) < 22:
        await asyncio.sleep(0.01)
    # Each job alone took 0.03 seconds, but the last ended 0.6 seconds after the batch had started.
    again = await send(queue, fake, "again")
    assert numbers(await do(queue, fake, ["in time"], within=0.5)) == [len("in time")]
    await again


class SteadySearch(FakeRetriever):
    """Searches for 10 ms for each plan."""

    def search(self, plans: Sequence[Plan], *arguments: Any, **options: Any) -> list[str]:
        time.sleep(0.01 * len(plans))
        return super().search(plans, *arguments, **options)


@on_event_loop
async def test_waiting_for_a_large_batch_is_not_the_pace_of_a_small_one(retriever: Retriever) -> None:
    fake, queue = SteadySearch(waits=False), worker(queue_size=64, batch_size=16)
    for _ in range(5):
        large = await send(queue, fake, *plans(retriever, *["a"] * 16))
        await asyncio.sleep(0.01)
        await do(queue, fake, plans(retriever, "b"))
        await large
    fake.go.clear()
    waiting = await send(queue, fake, *"cdef")
    # About 80 ms; as long as each small batch waited for a large one, it would be 1200.
    patient = asyncio.ensure_future(do(queue, fake, ["g"], within=0.9))
    await asyncio.sleep(0)
    fake.go.set()
    assert numbers([*await waiting, *await patient]) == [1] * 5


class Panic(BaseException):
    """Like those of libraries in Rust."""


@pytest.mark.parametrize("error", [Panic("at the disco"), StopIteration()], ids=["panic", "stop"])
@on_event_loop
async def test_every_kind_of_error_is_raised_where_the_result_is_awaited(error: BaseException) -> None:
    class Broken(FakeRetriever):
        def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
            raise error

    queue = worker()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"interrupted by {type(error).__name__}") as raised:
            await do(queue, Broken(), ["a", "b"])
        assert raised.value.__cause__ is error


@on_event_loop
async def test_cancelled_jobs_and_those_waiting_at_close_are_dropped() -> None:
    fake, queue = FakeRetriever(), worker()
    first, cancelled, second = [await send_first(queue, fake, "a"), *[await send(queue, fake, text) for text in "xb"]]
    cancelled.cancel()
    fake.go.set()
    await asyncio.gather(first, second)
    fake.go.clear()
    fake.started.clear()
    last, dropped = await send_first(queue, fake, "c"), await send(queue, fake, "dropped")
    fake.go.set()
    queue.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await do(queue, fake, ["late"])
    assert numbers(await last) == [1]
    with pytest.raises(RuntimeError, match="the worker has been closed"):
        await dropped
    assert fake.batches == [["a"], ["b"], ["c"]]


def test_a_busy_encoder_blocks_no_other_endpoint_and_a_full_queue_is_429(held: tuple[Retriever, HeldEncoder]) -> None:
    retriever, encoder = held
    with ThreadPoolExecutor(3) as threads, served(retriever, queue_size=1, max_batch=1) as client:
        first = threads.submit(client.post, "/v1/retrieve", json=BODY)
        assert encoder.started.wait(10)
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/tasks/notes/demonstrations/n01").status_code == 200
        assert not first.done()
        # One of these waits, and the other finds the queue full.
        others = [threads.submit(client.post, "/v1/retrieve", json=BODY) for _ in range(2)]
        refused = wait(others, timeout=10, return_when=FIRST_COMPLETED).done.pop().result()
        encoder.go.set()
        assert sorted(other.result().status_code for other in others) == [200, 429]
        assert first.result().status_code == 200
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:udr:problem:overloaded"
