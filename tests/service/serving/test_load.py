"""A service that listens, and many clients at once: what each is told is what it would have been told alone."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from tests.service.running import running
from tests.service.serving.test_reloader import Source
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.store import read_current
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_service import Settings, create_app

CLIENTS = 12
Asked = tuple[str, dict[str, Any]]
"""A path and a body."""


class SlowEncoder(HashEncoder):
    """Takes its time for each batch."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        time.sleep(0.02)
        return super().encode_queries(texts)


@contextmanager
def serving(index: Path, encoder: HashEncoder, **settings: Any) -> Iterator[str]:
    """Serve an index; yields the address."""
    with Retriever.open(index, encoder=encoder) as retriever:
        with running(create_app(retriever, Settings(**settings), Words())) as address:
            yield address


def ask_all(address: str, asked: Sequence[Asked], clients: int) -> list[httpx2.Response]:
    """The answers, in order; each client asks the next question when it has an answer."""

    def ask(client: httpx2.Client, mine: Sequence[Asked]) -> list[httpx2.Response]:
        return [client.post(path, json=body) for path, body in mine]

    with ThreadPoolExecutor(clients) as threads, httpx2.Client(base_url=address, timeout=60) as client:
        parts = list(threads.map(lambda place: ask(client, asked[place::clients]), range(clients)))
    return [parts[place % clients][place // clients] for place in range(len(asked))]


def mixed(count: int) -> list[Asked]:
    """Questions of all kinds, some of them equal, some that cannot be answered."""
    generator = random.Random(0)
    words = "a dull grey monday i sang on friday lamp chair kettle broke where is the castle".split()

    def query() -> dict[str, Any]:
        text = " ".join(generator.choices(words, k=generator.randint(1, 5)))
        where = generator.choice([{"task": "notes"}, {"task": "questions"}, {"family": "mood"}, {"scope": "all"}, {}])
        return {**where, "input": text, "k": generator.randint(1, 7)}

    kinds: list[Callable[[], Asked]] = [
        lambda: ("/v1/retrieve", query()),
        lambda: ("/v1/retrieve/batch", {"requests": [query() for _ in range(generator.randint(0, 5))]}),
        lambda: ("/v1/prompt", {"task": "notes", "input": query()["input"], "budget": 60}),
        lambda: ("/v1/embeddings", {"input": [query()["input"]]}),
    ]
    return [generator.choice(kinds)() for _ in range(count)]


def test_answers_to_many_clients_are_those_of_requests_alone(index: Path) -> None:
    asked = mixed(240)
    with serving(index, HashEncoder(), cache_size=0) as address:
        alone = ask_all(address, asked, clients=1)
        together = ask_all(address, asked, CLIENTS)
    assert [(one.status_code, one.json()) for one in together] == [(one.status_code, one.json()) for one in alone]
    assert {one.status_code for one in alone} == {200, 422}


def test_answers_while_versions_change_are_those_of_the_versions_they_name(collection: Path, tmp_path: Path) -> None:
    index, names = tmp_path / "index", list[str]()
    for pool in (None, 9):
        build(BuildConfig(tasks=collection, out=index, pool=pool), HashEncoder())
        names.append(read_current(index))
    bodies: list[dict[str, Any]] = [{"scope": "all", "input": f"a dull day {number}", "k": 5} for number in range(300)]
    with running(create_app(Source(index), Settings())) as address, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(ask_all, address, [("/v1/retrieve", body) for body in bodies], CLIENTS)
        turns = 0
        while not answering.done():
            publish(index, names[turns % 2])
            assert httpx2.post(f"{address}/v1/admin/reload", timeout=60).status_code == 200
            turns += 1
        answers = [answer.json() for answer in answering.result()]
    assert turns > 2 and {answer["index_version"] for answer in answers} == set(names)
    for name in names:
        publish(index, name)
        with Retriever.open(index, encoder=HashEncoder()) as retriever:
            for body, answer in zip(bodies, answers, strict=True):
                if answer["index_version"] == name:
                    assert answer == retriever.retrieve(**body).to_json()


@pytest.mark.parametrize("size", [1, 4])
def test_too_many_are_refused_at_once_and_afterwards_all_is_as_before(index: Path, size: int) -> None:
    requests = [{"task": "notes", "input": f"a dull day {number}", "k": 1} for number in range(240)]
    asked: list[Asked] = [
        ("/v1/retrieve/batch", {"requests": requests[place : place + size]}) for place in range(0, len(requests), size)
    ]
    limits = {"queue_size": 8, "max_batch": 8, "encode_batch": 4, "timeout_seconds": 5}
    with serving(index, SlowEncoder(), **limits) as address:
        answers = ask_all(address, asked, clients=24)
        (after,) = ask_all(address, [("/v1/retrieve", requests[0])], clients=1)
        metrics = httpx2.get(f"{address}/metrics").text
    counts = Counter(answer.status_code for answer in answers)
    # None is taken in and then left to its deadline.
    assert set(counts) == {200, 429}
    assert after.status_code == 200
    assert "udr_queue_length 0.0" in metrics
    assert f'udr_refused_total{{reason="queue_full"}} {counts[429]}.0' in metrics
