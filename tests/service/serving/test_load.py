"""A listening service under many clients: each answer is the one that a single client gets."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2

from tests.fakes import HashEncoder
from tests.service.conftest import Source, Words
from tests.service.running import running
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.store import read_current
from udr_index.build import BuildConfig, build
from udr_index.versions import publish
from udr_service import Settings, create_app

CLIENTS = 12
Request = tuple[str, dict[str, Any]]
"""A path and a body."""


class SlowEncoder(HashEncoder):
    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        time.sleep(0.02)
        return super().encode_queries(texts)


def ask_all(address: str, requests: Sequence[Request], clients: int) -> list[httpx2.Response]:
    """Return the answers, in order; each client sends its next request when it has an answer."""
    with ThreadPoolExecutor(clients) as threads, httpx2.Client(base_url=address, timeout=60) as client:
        shares = threads.map(
            lambda number: [client.post(path, json=body) for path, body in requests[number::clients]], range(clients)
        )
        answers = dict(enumerate(shares))
    return [answers[position % clients][position // clients] for position in range(len(requests))]


def mixed(count: int) -> list[Request]:
    """Requests of all kinds, some of them equal, some invalid."""
    generator = random.Random(0)
    words = "a dull grey monday i sang on friday lamp chair kettle broke where is the castle".split()

    def query() -> dict[str, Any]:
        text = " ".join(generator.choices(words, k=generator.randint(1, 5)))
        scope = generator.choice([{"task": "notes"}, {"task": "questions"}, {"family": "mood"}, {"scope": "all"}, {}])
        return {**scope, "input": text, "k": generator.randint(1, 7)}

    def request() -> Request:
        kinds: list[Request] = [
            ("/v1/retrieve", query()),
            ("/v1/retrieve/batch", {"requests": [query() for _ in range(generator.randint(0, 5))]}),
            ("/v1/prompt", {"task": "notes", "input": query()["input"], "budget": 60}),
            ("/v1/embeddings", {"input": [query()["input"]]}),
        ]
        return generator.choice(kinds)

    return [request() for _ in range(count)]


def test_many_clients_get_the_answers_of_a_single_one(index: Path) -> None:
    requests = mixed(120)
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        with running(create_app(retriever, Settings(), Words())) as address:
            alone = ask_all(address, requests, clients=1)
            together = ask_all(address, requests, CLIENTS)

    def told(answer: httpx2.Response) -> tuple[int, dict[str, Any]]:
        # Each prompt has its own name.
        return answer.status_code, {name: item for name, item in answer.json().items() if name != "prompt_id"}

    assert list(map(told, together)) == list(map(told, alone))
    assert {answer.status_code for answer in alone} == {200, 422}


def test_answers_during_reloads_are_those_of_the_version_they_name(collection: Path, tmp_path: Path) -> None:
    index, names = tmp_path / "index", list[str]()
    for pool in (None, 9):
        build(BuildConfig(tasks=collection, out=index, pool=pool), HashEncoder())
        names.append(read_current(index))
    bodies: list[dict[str, Any]] = [{"scope": "all", "input": f"a dull day {number}", "k": 5} for number in range(48)]
    turns = 0

    def ask(address: str) -> list[httpx2.Response]:
        answers = list[httpx2.Response]()
        while turns < 4:
            answers += ask_all(address, [("/v1/retrieve", body) for body in bodies], CLIENTS)
        return answers

    with running(create_app(Source(index), Settings())) as address, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask, address)
        while not asking.done():
            publish(index, names[turns % 2])
            assert httpx2.post(f"{address}/v1/admin/reload", timeout=60).status_code == 200
            turns += 1
        answers = [answer.json() for answer in asking.result()]
    assert {answer["index_version"] for answer in answers} == set(names)
    for name in names:
        publish(index, name)
        with Retriever.open(index, encoder=HashEncoder()) as retriever:
            for body, answer in zip(cycle(bodies), answers, strict=False):
                if answer["index_version"] == name:
                    assert answer == retriever.retrieve(**body).to_json()


def test_an_overloaded_service_refuses_at_once_and_recovers(index: Path) -> None:
    items = [{"task": "notes", "input": f"a dull day {number}", "k": 1} for number in range(240)]
    requests: list[Request] = [
        ("/v1/retrieve/batch", {"requests": items[first : first + 4]}) for first in range(0, len(items), 4)
    ]
    settings = Settings(queue_size=8, max_batch=8, encode_batch=4, timeout_seconds=60)
    with Retriever.open(index, encoder=SlowEncoder()) as retriever:
        with running(create_app(retriever, settings, Words())) as address:
            answers = ask_all(address, requests, clients=24)
            (after,) = ask_all(address, [("/v1/retrieve", items[0])], clients=1)
            metrics = httpx2.get(f"{address}/metrics").text
    counts = Counter(answer.status_code for answer in answers)
    # No accepted request misses its deadline.
    assert set(counts) == {200, 429}
    assert after.status_code == 200
    assert "udr_queue_length 0.0" in metrics
    assert f'udr_refused_total{{reason="queue_full"}} {counts[429]}.0' in metrics
