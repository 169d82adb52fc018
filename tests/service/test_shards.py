"""Pools in several services: their merged answers equal those of one index of all rows."""

import asyncio
import json
import logging
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.documentation.pages import ROOT, blocks
from tests.fakes import NOTES, HashEncoder, write_task
from tests.service.conftest import Words
from tests.service.running import running, serving
from tests.tiny_models import save_encoder
from udr.cli import main
from udr.client import Client
from udr.client.shards import Placements, ShardedClient, read_placements
from udr.errors import ArtifactError, ConfigError, InvalidInputError, ShardsError, UnknownTaskError
from udr.retrieval import Retrieval, RetrievalRequest, Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_index.versions import PLACEMENTS, build_shards, place
from udr_service import Settings, create_app
from udr_service.app import create_shards_app
from udr_service.auth import Scope, new_key

NUMBER = 3


@pytest.fixture(scope="module")
def shards(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's index in three shards, placed at the hosts ``shard-1`` and so on."""
    out = tmp_path_factory.mktemp("shards")
    config = BuildConfig(tasks=collection, out=out, bm25=False)
    built = list(build_shards(config, NUMBER, encoder=HashEncoder()))
    place(out / PLACEMENTS, {b.path.parent.parent: [f"http://shard-{n}"] for n, b in enumerate(built, start=1)})
    return out


class Services:
    """The services of shards, in this process; those whose host is in ``stopped`` refuse connections.

    Those in ``silent`` accept them and say nothing.
    """

    def __init__(self, root: Path) -> None:
        self.stopped, self.silent = set[str](), set[str]()
        self._retrievers = [
            Retriever.open(root / f"shard-{n}-of-{NUMBER}", encoder=HashEncoder()) for n in range(1, NUMBER + 1)
        ]
        self._apps = {
            f"shard-{n}": httpx2.ASGITransport(create_app(retriever, Settings(), Words()))
            for n, retriever in enumerate(self._retrievers, start=1)
        }

    def serve(self, host: str, retriever: Retriever) -> None:
        """Serve a retriever, which the caller closes, at another host."""
        self._apps[host] = httpx2.ASGITransport(create_app(retriever, Settings(), Words()))

    def transport(self, url: str) -> httpx2.AsyncBaseTransport:
        """Return what stands for the network."""
        return httpx2.MockTransport(self._handle)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if host in self.stopped:
            raise httpx2.ConnectError("Connection refused")
        if host in self.silent:
            await asyncio.sleep(60)
        # The service without keys answers its own machine only.
        request.headers["Host"] = "127.0.0.1"
        return await self._apps[host.removesuffix("-too")].handle_async_request(request)

    def close(self) -> None:
        for retriever in self._retrievers:
            retriever.close()


@pytest.fixture
def services(shards: Path) -> Iterator[Services]:
    opened = Services(shards)
    yield opened
    opened.close()


def ask(
    services: Services, placements: Path | Placements, requests: Sequence[RetrievalRequest], seconds: float = 10.0
) -> list[Any]:
    """Return what a sharded client answers."""
    read = read_placements(placements) if isinstance(placements, Path) else placements

    async def answers() -> list[Any]:
        async with ShardedClient(read, timeout=seconds, transport=services.transport) as client:
            return await client.answer(requests)

    return asyncio.run(answers())


QUERIES: Sequence[Mapping[str, Any]] = [
    {"task": "notes", "input": "a dull day"},
    {"task": "notes", "input": "i lost it on friday", "k": 20},
    {"task": "questions", "input": "Where is the old bridge?", "k": 24, "keep_copies": True},
    {"task": "reviews", "input": {"thing": "lamp", "text": "works every day"}, "k": 5},
    {"task": "reviews", "input": {"thing": "lamp", "text": "broke on monday"}, "k": 7, "keep_copies": True},
    {"task": "reviews", "input": {"thing": "kettle", "text": "fine"}, "k": 3, "exclude": ["ra00", "rb02"]},
    {"task": "reviews", "input": {"thing": "kettle", "text": "works"}, "k": 9, "filter": "n >= 3 and n < 7"},
    {"task": "notes", "input": "a dull day", "min_similarity": 0.5},
    {"task": "notes", "input": "a dull day", "max_similarity": 0.6, "k": 6},
    {"task": "notes", "input": "a dull day", "max_copy": 0.8, "k": 6},
    {"task": "notes", "input": "what a fine sunday", "balance": True, "k": 7},
    {"task": "questions", "input": "How old is Emma?", "balance": True, "k": 11, "max_similarity": 0.7},
    {"task": "notes", "input": "a dull day", "k": 2, "fill": True, "candidates": 9},
    {"task": "notes", "input": "a dull day", "k": 2, "fill": True},
    {"task": "notes", "input": "a dull day", "k": 2, "balance": True, "fill": True, "candidates": 5},
    {"family": "mood", "input": "a fine monday", "k": 12},
    {"scope": "all", "input": "where is the kettle on monday", "k": 30},
    {"scope": "all", "input": "monday", "k": 62, "min_similarity": 0.1},
]


@pytest.mark.parametrize("query", QUERIES, ids=json.dumps)
def test_merged_answers_equal_those_of_one_index(
    shards: Path, services: Services, retriever: Retriever, query: Mapping[str, Any]
) -> None:
    request = RetrievalRequest(**query)
    (expected,) = retriever.answer([request])
    assert isinstance(expected, Retrieval)
    (merged,) = ask(services, shards / PLACEMENTS, [request])
    assert isinstance(merged, Retrieval), merged
    assert [*merged] == [*expected]
    assert (merged.k, merged.scale, merged.model) == (expected.k, expected.scale, expected.model)
    assert merged.copies == expected.copies
    assert merged.index_version == read_placements(shards / PLACEMENTS).version
    assert not merged.missing_shards


INVALID: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"task": "notes", "k": 21}, "k must be from 1 to 20"),
    ({"task": "poems"}, "unknown task 'poems'"),
    ({"task": "notes", "family": "mood"}, "give exactly one of"),
    ({"scope": "all", "balance": True, "candidates": 3}, "candidates must be"),
    ({"task": "notes", "filter": "n >="}, "filter"),
    ({"task": "notes", "mode": "bm25"}, "mode 'bm25' reads statistics of all rows, but its rows are in 3 shards"),
    ({"task": "notes", "mode": "hybrid"}, "mode 'hybrid' reads statistics"),
    ({"task": "notes", "distinct": 0.0}, "distinct compares the vectors"),
    ({"task": "notes", "diversity": 0.5}, "diversity compares the vectors"),
    ({"task": "notes", "coverage": 0.5}, "coverage reads statistics"),
    ({"task": "notes", "explain": True}, "explain tells the place"),
    ({"task": "notes", "label_head": True}, "label_head needs a head"),
]


@pytest.mark.parametrize(("query", "problem"), INVALID, ids=[problem for _, problem in INVALID])
def test_what_needs_all_rows_is_refused(
    shards: Path, services: Services, query: Mapping[str, Any], problem: str
) -> None:
    valid = RetrievalRequest(task="notes", input="a dull day")
    refused, answered = ask(
        services, shards / PLACEMENTS, [RetrievalRequest(**{"input": "a dull day", **query}), valid]
    )
    assert isinstance(refused, UnknownTaskError if "unknown" in problem else InvalidInputError)
    assert problem in str(refused)
    assert isinstance(answered, Retrieval)


REQUEST = RetrievalRequest(task="notes", input="a dull day", k=20)


def test_answer_names_the_shards_that_are_stopped(
    shards: Path, services: Services, retriever: Retriever, caplog: pytest.LogCaptureFixture
) -> None:
    services.stopped = {"shard-2"}
    (partial,) = ask(services, shards / PLACEMENTS, [REQUEST])
    assert partial.missing_shards == ("shard-2-of-3",)
    assert partial.to_json()["missing_shards"] == ["shard-2-of-3"]
    (whole,) = retriever.answer([REQUEST])
    assert isinstance(whole, Retrieval)
    with Retriever.open(shards / "shard-2-of-3", encoder=HashEncoder()) as lost:
        kept = [item for item in whole if lost.partitions().view.row("notes", item.id) is None]
    assert [(item.id, item.similarity) for item in partial] == [(item.id, item.similarity) for item in kept]
    assert 0 < len(partial) < len(whole)
    assert "answers lack shard shard-2-of-3: http://shard-2: cannot be reached" in caplog.text


def test_silent_shard_costs_its_time_once(shards: Path, services: Services, caplog: pytest.LogCaptureFixture) -> None:
    services.silent = {"shard-2"}

    async def answers() -> list[tuple[Any, float]]:
        results: list[tuple[Any, float]] = []
        loop = asyncio.get_running_loop()
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, timeout=2.0, transport=services.transport) as client:
            for turn in range(3):
                if turn == 2:
                    services.silent = set()
                    await asyncio.sleep(1.0)
                started = loop.time()
                (result,) = await client.answer([REQUEST])
                results.append((result, loop.time() - started))
        return results

    (first, waited), (second, at_once), (whole, _) = asyncio.run(answers())
    assert first.missing_shards == second.missing_shards == ("shard-2-of-3",)
    assert 1.5 < waited < 2.0
    assert at_once < 1.0
    # It is asked again without anybody's help, and what changes is logged once.
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "answers lack shard shard-2-of-3: http://shard-2: no answer within 1.6 seconds",
        "shard shard-2-of-3 answers again",
    ]
    assert len(whole) == 20
    assert not whole.missing_shards


def test_error_says_why_no_shard_answers(shards: Path, services: Services) -> None:
    services.stopped = {f"shard-{n}" for n in range(1, NUMBER + 1)}
    (failed,) = ask(services, shards / PLACEMENTS, [REQUEST])
    assert isinstance(failed, ShardsError)
    assert failed.status == 503
    assert str(failed).startswith("no shard answered: shard shard-1-of-3: http://shard-1: cannot be reached")


def test_replicas_of_a_shard_stand_in_for_each_other(tmp_path: Path, shards: Path, services: Services) -> None:
    place(
        tmp_path / "placements",
        {shards / f"shard-{n}-of-3": [f"http://shard-{n}", f"http://shard-{n}-too"] for n in range(1, 4)},
    )
    services.stopped = {"shard-1", "shard-2-too"}
    services.silent = {"shard-3"}
    for result in ask(services, tmp_path / "placements", [REQUEST] * 3, seconds=4.0):
        assert len(result) == 20
        assert not result.missing_shards


def test_answers_of_another_version_are_not_merged(tmp_path: Path, shards: Path, services: Services) -> None:
    # The services of the first two have changed places.
    hosts = {1: 2, 2: 1, 3: 3}
    place(tmp_path / "placements", {shards / f"shard-{n}-of-3": [f"http://shard-{h}"] for n, h in hosts.items()})
    (partial,) = ask(services, tmp_path / "placements", [REQUEST])
    assert partial.missing_shards == ("shard-1-of-3", "shard-2-of-3")


def test_task_in_one_shard_is_answered_there_with_every_option(
    tmp_path: Path, collection: Path, services: Services, shards: Path, encoder: HashEncoder
) -> None:
    for name, tasks in (("a", ("notes",)), ("b", ("questions", "reviews"))):
        build(BuildConfig(tasks=collection, out=tmp_path / name, names=tasks, bm25=True), HashEncoder())
    place(tmp_path / "placements", {tmp_path / "a": ["http://a"], tmp_path / "b": ["http://b"]})
    request = RetrievalRequest(
        task="notes", input="a dull day", k=4, mode="hybrid", distinct=0.9, explain=True, label_head=None
    )
    with Retriever.open(tmp_path / "a", encoder=encoder) as one:
        (expected,) = one.answer([request])
        services.serve("a", one)
        (answered,) = ask(services, tmp_path / "placements", [request])
    assert isinstance(expected, Retrieval)
    assert [*answered] == [*expected]
    assert answered.decisions == expected.decisions
    (refused,) = ask(services, tmp_path / "placements", [RetrievalRequest(scope="all", input="monday")])
    assert "the shards have different families" in str(refused)


def test_demonstrations_are_read_from_their_shard(shards: Path, services: Services, retriever: Retriever) -> None:
    async def rows() -> list[Any]:
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, transport=services.transport) as client:
            assert client.tasks == retriever.tasks
            found = [await client.demonstration("notes", f"n{n:02}") for n in range(20)]
            with pytest.raises(UnknownTaskError, match="no demonstration 'n99'"):
                await client.demonstration("notes", "n99")
            return found

    assert asyncio.run(rows()) == [retriever.demonstration("notes", f"n{n:02}") for n in range(20)]


def test_shards_are_the_same_alone_and_hold_each_row_once(tmp_path: Path, collection: Path, shards: Path) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, bm25=False)
    (alone,) = build_shards(config, NUMBER, 2, encoder=HashEncoder())
    together = read_placements(shards / PLACEMENTS)
    assert alone.version == together.shards[1].version
    assert not (tmp_path / PLACEMENTS).exists()
    assert together.sizes == {"notes": 20, "questions": 24, "reviews": 18}


def test_placements_that_cannot_be_searched_as_one_are_refused(tmp_path: Path, index: Path, shards: Path) -> None:
    path = tmp_path / "placements"
    with pytest.raises(ConfigError, match=r"both have the row .* of task"):
        place(path, {index: ["http://a"], shards / "shard-1-of-3": ["http://b"]})
    assert not path.exists()
    place(path, {shards / "shard-1-of-3": []})
    with pytest.raises(ArtifactError, match="no service is named for shard shard-1-of-3; write its address into urls"):
        read_placements(path)
    path.write_text('{"format": 1}')
    with pytest.raises(ArtifactError, match="is no manifest of placements: 'encoder' is missing; run: udr index place"):
        read_placements(path)


def test_shards_have_names_of_their_own(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in ("notes", "questions"):
        build(BuildConfig(tasks=collection, out=tmp_path / task / "index", names=(task,), bm25=False), HashEncoder())
    with pytest.raises(ConfigError, match=r"notes/index and .*questions/index: answers name a shard by its folder"):
        place(tmp_path / "placements", {tmp_path / task / "index": ["http://a"] for task in ("notes", "questions")})
    assert not (tmp_path / "placements").exists()
    monkeypatch.chdir(tmp_path / "notes" / "index")
    place(tmp_path / "placements", {Path(): ["http://a"]})
    assert [shard.name for shard in read_placements(tmp_path / "placements").shards] == ["index"]


DAMAGE: Sequence[tuple[str, Any, str]] = [
    ("shards", [], "it has no shard"),
    ("wording", 7, "the wording"),
    ("encoder", {"name": "e", "fingerprint": "f", "dimension": "wide", "metric": "cosine"}, "the encoder's dimension"),
    ("encoder", {"name": "e", "fingerprint": "f", "dimension": 3, "metric": "weird"}, "the encoder's metric"),
]


@pytest.mark.parametrize(("name", "value", "problem"), DAMAGE, ids=[problem for _, _, problem in DAMAGE])
def test_values_of_placements_are_checked(name: str, value: Any, problem: str, tmp_path: Path, shards: Path) -> None:
    keys = json.loads((shards / PLACEMENTS).read_text())
    (tmp_path / "placements").write_text(json.dumps({**keys, name: value}))
    with pytest.raises(ArtifactError, match=f"is no manifest of placements: {problem}"):
        read_placements(tmp_path / "placements")


def test_shards_of_samples_or_with_label_heads_are_refused(tmp_path: Path, collection: Path) -> None:
    with pytest.raises(ConfigError, match="a shard is a part of the whole pool"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path, pool=5), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="shards have none"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path, label_head=True), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="the shard must be from 1 to the number of shards, 2; found 3"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path), 2, 3, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="memory://pools is on a remote store, where shards cannot be built"):
        list(build_shards(BuildConfig(tasks=collection, out=Path("memory://pools")), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="shard 2 of 400 has no row of any task; make fewer shards"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path), 400, 2, encoder=HashEncoder()))


@pytest.fixture
def front(shards: Path, services: Services) -> Iterator[TestClient]:
    """The service that asks the others."""
    client = ShardedClient(read_placements(shards / PLACEMENTS), timeout=2.0, transport=services.transport)
    with TestClient(create_shards_app(client, Settings(), {"words": Words()})) as http:
        yield http


PATHS = ["/v1/tasks", "/v1/tasks/notes", "/v1/tasks/notes/demonstrations/n07", "/v1/tasks/notes/demonstrations/n99"]


def test_service_of_shards_answers_as_that_of_one_index(front: TestClient, service: TestClient) -> None:
    def same(method: str, path: str, body: Any = None) -> None:
        one, merged = (client.request(method, path, json=body) for client in (service, front))
        assert (merged.status_code, without_version(merged.json())) == (one.status_code, without_version(one.json()))

    for path in PATHS:
        same("GET", path)
    prompt = {"task": "notes", "input": "a dull day", "budget": 60, "k": 6}
    same("POST", "/v1/retrieve", {"task": "notes", "input": "a dull day", "k": 6})
    same("POST", "/v1/retrieve", {"task": "notes", "input": "a dull day", "k": 21})
    same("POST", "/v1/retrieve", {"task": "notes", "input": {"words": "a dull day"}})
    same("POST", "/v1/retrieve", {"task": "poems", "input": "a dull day"})
    same("POST", "/v1/retrieve", {"task": "notes", "unknown": 1})
    same("POST", "/v1/retrieve", {"task": "notes", "input": "a dull day", "k": 1000})
    same("POST", "/v1/prompt", prompt)
    same("POST", "/v1/prompt", {**prompt, "budget": 5})
    requests = [{"scope": "all", "input": "monday", "k": 9}, {"task": "notes"}, {"family": "topic", "input": "old"}]
    same("POST", "/v1/retrieve/batch", {"requests": requests})


def without_version(value: Any) -> Any:
    """Leave out what names the version, the tokenizer or the prompt."""
    if isinstance(value, list):
        return [without_version(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = ("index_version", "tokenizer", "prompt_id")
    return {name: without_version(item) for name, item in value.items() if name not in named}


def test_service_of_shards_says_what_is_missing(shards: Path, services: Services) -> None:
    asked = ShardedClient(read_placements(shards / PLACEMENTS), timeout=2.0, transport=services.transport)
    with running(create_shards_app(asked, Settings(), {"words": Words()})) as url, Client(url, retries=0) as client:
        assert httpx2.get(f"{url}/readyz").json() == {"status": "ready"}
        assert not client.retrieve("notes", "a dull day").missing_shards
        services.stopped = {"shard-3"}
        assert client.retrieve("notes", "a dull day").missing_shards == ("shard-3-of-3",)
        assert client.prompt("notes", "a dull day", budget=100).missing_shards == ("shard-3-of-3",)
        assert 'udr_missing_shards_total{shard="shard-3-of-3"} 2.0' in httpx2.get(f"{url}/metrics").text
        services.stopped = {"shard-1", "shard-2", "shard-3"}
        none = httpx2.post(f"{url}/v1/retrieve", json={"task": "notes", "input": "a dull day"})
    assert (none.status_code, none.json()["type"]) == (503, "urn:udr:problem:shards-missing")
    assert none.headers["Retry-After"] == "1"


def test_service_of_shards_is_ready_while_one_is(shards: Path, services: Services) -> None:
    for stopped, status, missing in (
        ({"shard-1"}, 200, ["shard-1-of-3"]),
        ({"shard-1", "shard-2", "shard-3"}, 503, None),
    ):
        services.stopped = stopped
        client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
        with TestClient(create_shards_app(client, Settings())) as http:
            answer = http.get("/readyz")
            assert (answer.status_code, answer.json().get("missing_shards")) == (status, missing)


def test_silent_service_of_a_shard_delays_no_readiness(shards: Path, services: Services, tmp_path: Path) -> None:
    hosts = ["http://shard-1", "http://shard-1-too"]
    place(tmp_path / "placements", {shards / "shard-1-of-3": hosts})
    services.silent = {"shard-1"}

    async def unready() -> tuple[list[str], float]:
        placements = read_placements(tmp_path / "placements")
        async with ShardedClient(placements, timeout=4.0, transport=services.transport) as client:
            started = time.monotonic()
            return await client.unready(), time.monotonic() - started

    missing, seconds = asyncio.run(unready())
    assert not missing
    assert seconds < 2.0
    services.silent = {"shard-1", "shard-1-too"}
    assert asyncio.run(unready())[0] == ["shard-1-of-3"]


def test_service_of_shards_describes_itself(front: TestClient, shards: Path) -> None:
    info = front.get("/v1/info").json()
    assert info["index_version"] == read_placements(shards / PLACEMENTS).version
    assert info["tasks"] == {"notes": 20, "questions": 24, "reviews": 18}
    assert [shard["name"] for shard in info["shards"]] == [f"shard-{n}-of-3" for n in range(1, 4)]
    assert front.post("/v1/retrieve", json={}, headers={"X-Udr-Index-Version": "0" * 16}).status_code == 422
    body = {"task": "notes", "input": "a dull day"}
    assert front.post("/v1/retrieve", json=body, headers={"X-Udr-Index-Version": "0" * 16}).status_code == 412


def test_key_of_a_service_of_shards_sees_only_its_rows(
    shards: Path, services: Services, retriever: Retriever, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    key, entry = new_key("shop", Scope.READ, ["reviews"], filter="n < 4")
    keys.write_text(entry.to_toml())
    client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
    query = {"thing": "lamp", "text": "works every day"}
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_shards_app(client, Settings(keys=keys)), headers=headers) as http:
        body = {"task": "reviews", "input": query, "k": 5, "filter": "n >= 2"}
        found = http.post("/v1/retrieve", json=body).json()["demonstrations"]
        expected = retriever.retrieve("reviews", query, 5, filter="n >= 2 and n < 4")
        assert [item["id"] for item in found] == [item.id for item in expected]
        assert http.post("/v1/retrieve", json={"task": "notes", "input": "dull"}).status_code == 403
        assert [task["name"] for task in http.get("/v1/tasks").json()["tasks"]] == ["reviews"]
        assert http.get("/v1/tasks/reviews/demonstrations/ra08").status_code == 404
        assert http.get("/v1/tasks/reviews/demonstrations/ra03").status_code == 200


def test_service_of_shards_keeps_to_the_limits_of_a_client(shards: Path, services: Services, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key, entry = new_key("app", Scope.READ)
    keys.write_text(entry.to_toml())
    headers = {"Authorization": f"Bearer {key}"}

    def statuses(input: str = "a dull day", held: int = 0, **settings: Any) -> list[int]:
        batch = {"requests": [{"task": "notes", "input": input}] * 64}
        client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
        app = create_shards_app(client, Settings(keys=keys, max_batch=64, **settings))
        app.state.service.room.hold(held)
        with TestClient(app, headers=headers) as http:
            answered = [http.post("/v1/retrieve/batch", json=batch).status_code for _ in range(4)]
            if held:
                # A small answer needs no room.
                assert http.post("/v1/retrieve", json={**batch["requests"][0], "k": 1}).status_code == 200
            assert app.state.service.waiting == 0
            return answered

    assert statuses() == [200] * 4
    assert statuses(client_items_per_second=5) == [200, 429, 429, 429]
    # It costs more than may ever wait.
    assert statuses("dull " * 200, queue_size=64) == [413] * 4
    # There is no room for what the shards would return.
    assert statuses(held=Settings().max_bodies_bytes) == [503] * 4


def test_service_of_shards_keeps_to_the_timeout_of_a_request(shards: Path, services: Services) -> None:
    services.silent = {"shard-1", "shard-2", "shard-3"}
    client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
    with TestClient(create_shards_app(client, Settings())) as http:
        answer = http.get("/v1/tasks/notes/demonstrations/n07", headers={"X-Udr-Timeout": "0.2"})
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:udr:problem:deadline-exceeded")


def test_commands_build_and_place_shards(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(save_encoder(tmp_path / "encoder"))
    build_two = ["index", "build", str(collection), "--out", str(tmp_path), "--model", model, "--shards", "2"]
    build_two += ["--no-export", "--no-bm25"]
    assert main([*build_two, "--shard", "1"]) == 0
    assert not (tmp_path / PLACEMENTS).exists()
    assert main([*build_two, "--json"]) == 0
    alone, *both = capsys.readouterr().out.splitlines()
    versions = [json.loads(line)["version"] for line in both]
    assert f"shard-1-of-2: version {versions[0]}" in alone
    file = tmp_path / "placements"
    placed = [f"{tmp_path}/shard-{n}-of-2=http://127.0.0.1:{n},http://127.0.0.1:1{n}" for n in (1, 2)]
    assert main(["index", "place", str(file), *placed]) == 0
    placements = read_placements(file)
    assert [shard.version for shard in placements.shards] == versions
    assert placements.shards[1].urls == ("http://127.0.0.1:2", "http://127.0.0.1:12")
    shown = f"version {placements.version}, 62 demonstrations in 2 shards at 4 services\n"
    assert capsys.readouterr().out.endswith(shown)
    with serving(str(file), engine=None) as (process, address):
        answer = httpx2.get(f"{address}/readyz")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:not-ready")
        process.terminate()
        assert process.wait(20) == 0


def test_service_of_shards_reads_its_keys_again_and_lingers(shards: Path, tmp_path: Path) -> None:
    file, keys = tmp_path / "placements", tmp_path / "keys.toml"
    place(file, {shards / "shard-1-of-3": ["http://127.0.0.1:9"]})
    (key, entry), (_, other) = (new_key(name, Scope.READ) for name in ("one", "two"))
    keys.write_text(entry.to_toml())
    options = [str(file), "--keys", str(keys), "--linger-seconds", "1"]
    with serving(*options, engine=None) as (process, address):

        def status(path: str = "/v1/tasks") -> int:
            return httpx2.get(f"{address}{path}", headers={"Authorization": f"Bearer {key}"}).status_code

        def reloads(text: str) -> str:
            keys.write_text(text)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            # The line of the audit log comes first.
            return process.stderr.readline() + process.stderr.readline()

        assert status() == 200
        assert "reload refused" in reloads("wrong")
        assert status() == 200
        assert "reloaded" in reloads(other.to_toml())
        assert status() == 401
        process.terminate()
        begun = time.monotonic()
        time.sleep(0.3)
        assert status("/readyz") == 503
        assert process.wait(20) == 0
        assert time.monotonic() - begun > 1.0


def test_python_in_the_documentation_asks_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Mapping[str, Json]] = [
        {"id": f"{n}", "input": {"text": f"a dull day {n}"}, "target": "sad"} for n in range(9)
    ]
    write_task(tmp_path / "tasks", {**NOTES, "name": "tickets"}, train=rows)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index", bm25=False), HashEncoder())
    monkeypatch.chdir(tmp_path)
    ((_, code),) = blocks((ROOT / "docs" / "scaling.md").read_text("utf-8"), "python")
    names: dict[str, Any] = {}
    exec(code, names)
    with (
        Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever,
        running(create_app(retriever, Settings(), Words())) as url,
    ):
        place(tmp_path / PLACEMENTS, {tmp_path / "index": [url]})
        assert asyncio.run(names["nearest"]("a dull day 7"))[:1] == [
            retriever.retrieve("tickets", "a dull day 7")[0].id
        ]


WRONG: Sequence[tuple[Sequence[str], str]] = [
    (["index", "build", "TASKS", "--out", "OUT", "--shard", "1"], "--shard 1 needs --shards, the number of shards"),
    (["index", "place", "FILE", "DIR"], "name each shard and its services as DIR=URL or DIR=URL,URL; found 'DIR'"),
    (["serve", "FILE", "--device", "cpu"], "names the services of shards, which --device is not for; omit --device"),
    (["serve", "FILE", "--watch-seconds", "1"], "which --watch-seconds is not for; omit --watch-seconds"),
    (["serve", "FILE"], "is no manifest of placements"),
]


@pytest.mark.parametrize(("command", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_commands_refuse_what_does_not_fit(
    command: Sequence[str], problem: str, tmp_path: Path, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("{}")
    paths = {"FILE": tmp_path / "file", "TASKS": collection, "OUT": tmp_path / "out"}
    assert main([str(paths.get(word, word)) for word in command]) != 0
    assert problem in capsys.readouterr().err
