"""Counts of demonstrations, names of prompts, and their outcomes, over REST and with both clients."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import Words, served
from tests.service.running import running
from udr import AsyncClient, Client, Retriever
from udr.errors import InvalidInputError, UnknownPromptError
from udr.store import LIVE
from udr.store.usage import USAGE, Count, UsageFile
from udr_service import Settings, create_app
from udr_service.auth import Scope, new_key

ROWS = "/v1/tasks/notes/demonstrations"
PROMPT: dict[str, Any] = {"task": "notes", "input": "a dull day", "k": 3, "budget": 24}


@pytest.fixture
def opened(copy: Path) -> Iterator[Retriever]:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        yield retriever


def counts(client: TestClient, **headers: str) -> dict[str, tuple[int, int]]:
    """The counts of the rows that were used at all."""
    rows = client.get(ROWS, params={"counts": "true"}, headers=headers).json()["demonstrations"]
    return {row["id"]: (row["retrieved"], row["shown"]) for row in rows if row["retrieved"] or row["shown"]}


def test_rows_tell_how_often_they_were_retrieved_and_shown(opened: Retriever, copy: Path) -> None:
    with served(opened) as client:
        assert counts(client) == {}
        prompt = client.post("/v1/prompt", json=PROMPT).json()
        found = [item["id"] for item in client.post("/v1/retrieve", json={**BODY, "k": 3}).json()["demonstrations"]]
        client.post("/v1/retrieve/batch", json={"requests": [{**BODY, "k": 2}, {**BODY, "task": "none"}]})
        client.get("/readyz")
        shown = {item["id"] for item in prompt["demonstrations"]}
        assert 0 < len(shown) < 3
        assert counts(client) == {id: (3 if n < 2 else 2, int(id in shown)) for n, id in enumerate(found)}
        row = client.get(f"{ROWS}/{found[0]}", params={"counts": "true"}).json()
        assert row["retrieved"] == 3
        assert "retrieved" not in client.get(f"{ROWS}/{found[0]}").json()
    # The service has ended, and stored them.
    with UsageFile(copy / LIVE / USAGE, read_only=True) as file:
        assert file.counts("notes")[found[2]] == Count(2, int(found[2] in shown))
        assert file.totals()["notes"].prompts == 1


BODY: dict[str, Any] = {"task": "notes", "input": "a dull day"}


def test_outcomes_of_prompts(opened: Retriever, copy: Path) -> None:
    with served(opened, usage="inputs") as client:
        ids = [client.post("/v1/prompt", json=PROMPT).json()["prompt_id"] for _ in range(3)]
        one = client.post("/v1/outcomes", json={"prompt_id": ids[0], "score": 1, "target": "glad"})
        assert (one.status_code, one.json()) == (200, {"told": 1, "replaced": 0})
        several = {"outcomes": [{"prompt_id": ids[0], "score": 0.5}, {"prompt_id": ids[1], "score": 0.0}]}
        assert client.post("/v1/outcomes", json=several).json() == {"told": 2, "replaced": 1}
    with UsageFile(copy / LIVE / USAGE, read_only=True) as file:
        told = [(item.prompt.prompt_id, item.prompt.input, item.outcome.score) for item in file.told()]
    assert told == [(ids[0], {"text": "a dull day"}, 0.5), (ids[1], {"text": "a dull day"}, 0.0)]


def test_both_clients_tell_outcomes(opened: Retriever, copy: Path) -> None:
    async def tell(url: str) -> None:
        async with AsyncClient(url) as client:
            prompt = await client.prompt("notes", "a dull day", k=2, budget=100)
            await client.outcome(prompt.prompt_id or "", 0.25, "glad")

    with running(create_app(opened, Settings(), Words())) as url, Client(url) as client:
        client.outcome(client.prompt("notes", "a dull day", k=2, budget=100).prompt_id or "", 1)
        asyncio.run(tell(url))
        with pytest.raises(UnknownPromptError, match="no prompt is known as nothing; prompt_id is in the answer"):
            client.outcome("nothing", 1.0)
        with pytest.raises(InvalidInputError, match="less than or equal to 1"):
            client.outcome("nothing", 1.5)
    with UsageFile(copy / LIVE / USAGE, read_only=True) as file:
        assert [(item.outcome.score, item.outcome.target) for item in file.told()] == [(1.0, None), (0.25, "glad")]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"prompt_id": "x", "score": 1.0}, 404, "no prompt is known as x"),
        ({"prompt_id": "x", "score": -0.1}, 422, "/score: must be greater than or equal to 0"),
        ({"prompt_id": "x", "score": True}, 422, "/score: must be a valid number"),
        ({"prompt_id": "x" * 65, "score": 1}, 422, "/prompt_id: String should have at most 64 characters"),
        ({"prompt_id": "x"}, 422, "give the prompt_id and the score of one prompt, or a list"),
        ({"prompt_id": "x", "score": 1, "target": "t" * 8193}, 422, "/target: String should have at most 8192"),
        ({"outcomes": []}, 422, "give the prompt_id and the score of one prompt, or a list"),
        ({"outcomes": [{"prompt_id": "x", "score": 2}]}, 422, "/outcomes/0/score: must be less"),
        ({"outcomes": [{"prompt_id": "x", "score": 1}] * 65}, 413, "the batch has 65 items; the limit is 64"),
        ({"outcomes": [{"prompt_id": "x", "score": 1}], "target": "x"}, 422, "give the prompt_id and the score"),
        ([], 422, "must be an object"),
    ],
)
def test_outcomes_that_are_refused(service: TestClient, body: Any, status: int, detail: str) -> None:
    answer = service.post("/v1/outcomes", json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.json()
    assert answer.json()["type"].endswith("unknown-prompt") == (status == 404)


def test_keys_tell_only_of_prompts_that_they_may_see(opened: Retriever, tmp_path: Path) -> None:
    owners = {"all": {}, "shop": {"filter": 'site = "shop"'}, "club": {"filter": 'site = "club"'}}
    keys, entries = {}, list[str]()
    for name, options in [*owners.items(), ("moods", {"task": "moods"})]:
        task = (options["task"],) if "task" in options else ()
        keys[name], entry = new_key(name, Scope.READ, task, (), options.get("filter"))
        entries.append(entry.to_toml())
    (tmp_path / "keys.toml").write_text("\n".join(entries))
    with served(opened, keys=tmp_path / "keys.toml") as client:

        def told(owner: str, teller: str) -> int:
            asked = client.post("/v1/prompt", json={**PROMPT, "filter": None}, headers={"X-Api-Key": keys[owner]})
            body = {"prompt_id": asked.json()["prompt_id"], "score": 1}
            return client.post("/v1/outcomes", json=body, headers={"X-Api-Key": keys[teller]}).status_code

        assert [told(owner, owner) for owner in owners] == [200, 200, 200]
        assert [told("shop", "club"), told("all", "shop"), told("shop", "all"), told("all", "moods")] == [
            *(404, 404, 200, 404)
        ]
        assert client.post("/v1/outcomes", json={"prompt_id": "x", "score": 1}).status_code == 401


def test_off_keeps_nothing(opened: Retriever, copy: Path) -> None:
    with served(opened, usage="off") as client:
        assert "prompt_id" not in client.post("/v1/prompt", json=PROMPT).json()
        for answer in (
            client.post("/v1/outcomes", json={"prompt_id": "x", "score": 1}),
            client.get(ROWS, params={"counts": "true"}),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (
                *(422, "this service keeps nothing of its use; start it with --usage counts"),
            )
        assert client.get("/v1/info").json()["usage"] == "off"
    assert not (copy / LIVE / USAGE).exists()


def test_info_tells_the_bounds(service: TestClient) -> None:
    info = service.get("/v1/info").json()
    limits = info["limits"]
    assert (info["usage"], limits["usage_prompts"], limits["usage_days"]) == ("counts", 100_000, 30.0)


def test_a_place_that_cannot_be_written_stops_nothing(
    opened: Retriever, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / LIVE).mkdir(exist_ok=True)
    (copy / LIVE / USAGE).write_text("not a database " * 100)
    with served(opened) as client, caplog.at_level(logging.WARNING, "udr.store.usage"):
        answers = [client.post("/v1/prompt", json=PROMPT) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert [shown for _, shown in counts(client).values()].count(3) > 0
        body = {"prompt_id": answers[0].json()["prompt_id"], "score": 1}
        assert client.post("/v1/outcomes", json=body).status_code == 507
        assert 'udr_upkeep_failures_total{part="usage"} 0.0' not in client.get("/metrics").text
    assert len([record for record in caplog.records if "is no file of usage" in record.message]) == 1
