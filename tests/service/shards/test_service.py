"""A service of shards answers as that of one index, and says what is missing."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from tests.service.running import running
from tests.service.shards.conftest import Services
from tests.service.test_client import forwarding
from udr.client import Client
from udr.client.shards import ShardedClient, read_placements
from udr.data import open_collection
from udr.errors import ConfigError, ServiceError
from udr.retrieval import Retriever
from udr_index.versions import PLACEMENTS, place
from udr_service import Settings
from udr_service.app import create_shards_app
from udr_service.auth import Scope, new_key
from udr_training.evaluation import parse_name
from udr_training.evaluation.retrievers import ServiceRetriever

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


def test_service_of_shards_says_what_is_missing(
    shards: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ShardedClient(read_placements(shards / PLACEMENTS), timeout=60.0, transport=services.transport)
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
    # The addresses are for the operator alone.
    assert none.json()["detail"].startswith("no shard answered: shard-1-of-3, shard-2-of-3, shard-3-of-3; the")
    assert "http" not in none.json()["detail"]
    for number in (1, 2, 3):
        assert f"shard shard-{number}-of-3: http://shard-{number}: cannot be reached" in caplog.text


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
        async with ShardedClient(placements, timeout=60.0, transport=services.transport) as client:
            started = time.monotonic()
            return await client.unready(), time.monotonic() - started

    missing, seconds = asyncio.run(unready())
    assert not missing
    assert seconds < 15
    services.silent = {"shard-1", "shard-1-too"}
    missing, seconds = asyncio.run(unready())
    assert missing == ["shard-1-of-3"]
    # Two seconds, since the probes in deploy/ give up after 4; of the client's time it would be 48.
    assert seconds < 15


def test_service_of_shards_describes_itself(front: TestClient, shards: Path) -> None:
    info = front.get("/v1/info").json()
    assert info["index_version"] == read_placements(shards / PLACEMENTS).version
    sizes = {task["name"]: (task["family"], task["demonstrations"]) for task in info["tasks"]}
    assert sizes == {"notes": ("mood", 20), "questions": ("topic", 24), "reviews": ("mood", 18)}
    assert [shard["name"] for shard in info["shards"]] == [f"shard-{n}-of-3" for n in range(1, 4)]
    assert front.post("/v1/retrieve", json={}, headers={"X-Udr-Index-Version": "0" * 16}).status_code == 422
    body = {"task": "notes", "input": "a dull day"}
    assert front.post("/v1/retrieve", json=body, headers={"X-Udr-Index-Version": "0" * 16}).status_code == 412


def test_service_of_shards_can_be_evaluated(
    front: TestClient, services: Services, collection: Path, retriever: Retriever
) -> None:
    transport, pool = httpx2.MockTransport(forwarding(front)), open_collection(collection).tasks["notes"].pool()

    def connect(url: str) -> Client:
        return Client(url, transport=transport)

    compared, queries = ServiceRetriever(parse_name("http://testserver", 3), 0, connect), pool.rows[:4]
    compared.check(pool, queries, 3)
    expected = [[item.id for item in retriever.retrieve("notes", query.input, 3)] for query in queries]
    assert [[row.id for row in shown.rows] for shown in compared.demonstrations(pool, queries, 3)] == expected
    services.stopped = {"shard-3"}
    with pytest.raises(
        ServiceError, match=r"http://testserver: answers without shard-3-of-3, so nothing can be said of it"
    ):
        compared.demonstrations(pool, queries, 3)


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
        wanted: dict[str, Any] = {"must": [{"key": "n", "range": {"gte": 2}}] * 63}
        assert http.post("/v1/retrieve", json={**body, "filter": wanted}).json()["demonstrations"] == found
        wanted["must"] *= 2
        for conditions, message in (
            (64, "together with the filter of the API key: a filter has at most 64"),
            (65, "64"),
        ):
            many = {**body, "filter": {"must": wanted["must"][:conditions]}}
            answer = http.post("/v1/retrieve", json=many)
            assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.json()
        deep: dict[str, Any] = {"key": "n", "range": {"gte": 2}}
        for _ in range(8):
            deep = {"must": [deep]}
        assert http.post("/v1/retrieve", json={**body, "filter": deep}).json()["demonstrations"] == found
        assert http.post("/v1/retrieve", json={"task": "notes", "input": "dull"}).status_code == 403
        assert [task["name"] for task in http.get("/v1/tasks").json()["tasks"]] == ["reviews"]
        assert http.get("/v1/tasks/reviews/demonstrations/ra08").status_code == 404
        assert http.get("/v1/tasks/reviews/demonstrations").status_code == 404
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


def test_key_of_a_service_of_shards_is_revoked_although_its_certificate_is_invalid(
    shards: Path, services: Services, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    (leaked, entry), (_, other) = (new_key(name, Scope.READ) for name in ("leaked", "other"))
    keys.write_text(entry.to_toml())
    app = create_shards_app(
        ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport), Settings(keys=keys)
    )

    def certificate() -> None:
        raise ConfigError("no certificate")

    with TestClient(app, headers={"Authorization": f"Bearer {leaked}"}) as http:
        assert http.get("/v1/tasks").status_code == 200
        keys.write_text(other.to_toml())
        asyncio.run(app.state.service.reload(certificate))
        assert http.get("/v1/tasks").status_code == 401


def test_service_of_shards_keeps_to_the_timeout_of_a_request(
    shards: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    services.silent = {"shard-1", "shard-2", "shard-3"}
    client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
    with TestClient(create_shards_app(client, Settings())) as http:
        answer = http.get("/v1/tasks/notes/demonstrations/n07", headers={"X-Udr-Timeout": "0.8"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:udr:problem:shards-missing")
    assert "; these did not answer: shard-1-of-3, shard-2-of-3, shard-3-of-3; " in answer.json()["detail"]
    assert "answers lack shard shard-2-of-3: http://shard-2: no answer within 0." in caplog.text


def test_row_that_a_missing_shard_may_have_is_not_said_to_be_unknown(
    shards: Path, services: Services, tmp_path: Path
) -> None:
    client = ShardedClient(read_placements(shards / PLACEMENTS), transport=services.transport)
    paths = [f"/v1/tasks/notes/demonstrations/n{number:02}" for number in range(20)]
    _, entry = new_key("another", Scope.READ)
    (tmp_path / "keys.toml").write_text(entry.to_toml())
    held = Retriever.open(shards / "shard-2-of-3", encoder=HashEncoder())
    with TestClient(create_shards_app(client, Settings()), raise_server_exceptions=False) as http, held:
        assert [http.get(path).status_code for path in paths] == [200] * 20
        services.stopped = {"shard-1"}
        services.serve("shard-2", held, keys=tmp_path / "keys.toml")
        answers = [http.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200, 503}
    # Of these two, one refuses connections, and the other the key.
    detail = next(answer.json()["detail"] for answer in answers if answer.status_code == 503)
    assert (
        detail.startswith("no shard that answered has demonstration 'n") and "of task 'notes'; these did not" in detail
    )
    assert "did not answer: shard-1-of-3, shard-2-of-3; the service's log" in detail
