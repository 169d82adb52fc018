"""Filters over REST, and keys that are for some rows only."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.index.builds import WORDS
from tests.service.conftest import Words, served
from tests.udr.retrieval.conftest import note, open_pools
from udr import Retriever
from udr.cli import main
from udr.prompts import PromptBuilder
from udr_service.auth import KeyFile, Scope, append, new_key

QUERY = {"task": "notes", "input": "the river at the castle", "k": 4}
STARS = {"must": [{"key": "stars", "range": {"gte": 3}}]}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    """An index of two tenants' rows, some of which are copies of the other's."""
    draw = random.Random(0)
    pools: dict[str, list[Any]] = {}
    for task in ("notes", "diary"):
        texts = [" ".join(draw.choices(WORDS, k=3)) for _ in range(60)]
        pools[task] = [
            {
                **note(f"{tenant}-{number:02}", text, draw.choice(["glad", "sad"])),
                "metadata": {"tenant": tenant, "stars": number % 6},
            }
            for tenant in ("a", "b")
            for number, text in enumerate(texts)
        ]
    with open_pools(tmp_path_factory.mktemp("tenants"), pools, bm25=True, label_head=False) as opened:
        yield opened


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with served(retriever) as client:
        yield client


def test_a_filter_is_the_cores(service: TestClient, retriever: Retriever) -> None:
    expected = retriever.retrieve("notes", QUERY["input"], 4, filter="stars >= 3")  # type: ignore[arg-type]
    assert service.post("/v1/retrieve", json={**QUERY, "filter": STARS}).json() == expected.to_json()
    assert all(item.metadata["stars"] in (3, 4, 5) for item in expected) and len(expected) == 4
    assert service.post("/v1/retrieve", json={**QUERY, "filter": "stars >= 3"}).json() == expected.to_json()
    nothing = {**QUERY, "filter": None}
    assert service.post("/v1/retrieve", json=nothing).json() == service.post("/v1/retrieve", json=QUERY).json()
    prompt = service.post("/v1/prompt", json={**QUERY, "filter": STARS, "budget": 500}).json()
    del prompt["prompt_id"]
    builder = PromptBuilder(Words(), 500)
    assert prompt == builder.build(retriever.tasks["notes"], str(QUERY["input"]), expected).to_json() | {
        "tokenizer": "fake-hash"
    }


def test_an_invalid_filter_fails_alone(service: TestClient) -> None:
    other_kind = {"must": [{"key": "tenant", "match": 1}]}
    unknown = {"must": [{"key": "stars", "like": 1}]}
    items = [{**QUERY, "filter": wanted} for wanted in (other_kind, unknown, STARS)]
    results = service.post("/v1/retrieve/batch", json={"requests": items}).json()["results"]
    assert [result.get("status", 200) for result in results] == [422, 422, 200]
    assert results[0]["detail"] == (
        "the filter compares 'tenant' with a number, but the rows have a text there; compare it with a text, or store "
        "a number in the rows' metadata"
    )
    assert "is not a field of this request" in results[1]["detail"]


def deep(levels: int) -> dict[str, Any]:
    return {"must": [deep(levels - 1)]} if levels else STARS


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (3, "must be an object"),
        ("stars >", "at character 8: expected a value"),
        ({"must": [{"key": "stars", "match": 1}] * 65}, "at most 64"),
        ({"must": [{"must": [{"key": "stars", "match": 1}] * 33}] * 2}, "at most 64 conditions, found 66"),
        ({"must": [{"key": "stars", "any": [*range(1025)]}]}, "at most 1024"),
        ({"must": [{"key": "s" * 257, "match": 1}]}, "at most 256 characters"),
        ({"must": [{"key": "stars"}]}, "needs one of match, any, range and exists"),
        ({"must": [{"key": "$rank", "match": 1}]}, "those that begin with $ are"),
        (deep(8), "nested at most 8 deep"),
        (deep(200), "nested"),
    ],
)
def test_a_filter_has_bounds(service: TestClient, wanted: Any, message: str) -> None:
    answer = service.post("/v1/retrieve", json={**QUERY, "filter": wanted})
    assert answer.status_code in (413, 422), answer.json()
    assert message in answer.json()["detail"]


@pytest.fixture
def tenants(retriever: Retriever, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A service with a key for each tenant's rows: its client, and their headers."""
    tenants: dict[str, Any] = {}
    for name in ("a", "b"):
        key, entry = new_key(name, Scope.READ, filter=f'tenant = "{name}"')
        append(tmp_path / "keys.toml", entry)
        tenants[name] = {"Authorization": f"Bearer {key}"}
    with served(retriever, keys=tmp_path / "keys.toml") as client:
        yield {**tenants, "client": client}


def fuzzed(draw: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"input": " ".join(draw.choices(WORDS, k=3)), "k": draw.randint(1, 12)}
    body |= draw.choice([{"task": "notes"}, {"task": "diary"}, {"scope": "all"}, {"family": "mood"}])
    options: dict[str, Any] = {
        "mode": draw.choice(["dense", "bm25", "hybrid"]),
        "balance": draw.random() < 0.5,
        "explain": True,
        "fill": draw.random() < 0.5,
        "keep_copies": draw.random() < 0.5,
        "exclude": ["a-00", "b-00", "b-01"],
        "distinct": draw.choice([None, 0.9]),
        "max_copy": draw.choice([None, 0.8]),
        "filter": draw.choice(
            [
                None,
                STARS,
                {"should": [{"key": "tenant", "match": "a"}, {"key": "tenant", "match": "b"}]},
                {"must_not": [{"key": "tenant", "match": "a"}]},
                {"must": [{"key": "tenant", "any": ["a", "b"]}], "must_not": [{"key": "stars", "match": 2}]},
            ]
        ),
    }
    return body | {name: options[name] for name in draw.sample(sorted(options), draw.randint(0, len(options)))}


@pytest.mark.parametrize("name", ["a", "b"])
def test_no_row_of_another_tenant_is_in_an_answer(tenants: dict[str, Any], retriever: Retriever, name: str) -> None:
    draw, client, other = random.Random(name), tenants["client"], "ba"["ab".index(name)]
    seen = 0
    for number in range(150):
        bodies = [fuzzed(draw) for _ in range(1 + 5 * (number % 2))]
        path, sent = ("/v1/retrieve/batch", {"requests": bodies}) if number % 2 else ("/v1/retrieve", bodies[0])
        answer = client.post(path, json=sent, headers=tenants[name])
        assert answer.status_code == 200, answer.text
        for result in answer.json()["results"] if number % 2 else [answer.json()]:
            found = [*result["demonstrations"], *result.get("decisions", ())]
            seen += len(found)
            assert {item["id"][0] for item in found} <= {name}
            assert f"'{other}-" not in str(result)
    assert seen > 1000
    prompt = client.post("/v1/prompt", json={**QUERY, "budget": 400}, headers=tenants[name]).json()
    assert {item["id"][0] for item in prompt["demonstrations"]} == {name}


def test_a_tenants_answers_are_those_of_its_filter(tenants: dict[str, Any], retriever: Retriever) -> None:
    client = tenants["client"]
    for body in ({**QUERY, "mode": "hybrid", "explain": True}, {**QUERY, "filter": STARS}):
        answer = client.post("/v1/retrieve", json=body, headers=tenants["a"]).json()
        own = 'tenant = "a"' + (" and stars >= 3" if "filter" in body else "")
        options = {"mode": body.get("mode", "dense"), "explain": "explain" in body}
        expected = retriever.retrieve("notes", QUERY["input"], 4, filter=own, **options)  # type: ignore[arg-type]
        assert answer == expected.to_json()


def test_a_row_of_another_tenant_is_unknown(tenants: dict[str, Any]) -> None:
    client, path = tenants["client"], "/v1/tasks/notes/demonstrations/"
    assert client.get(f"{path}a-03", headers=tenants["a"]).json()["metadata"] == {"tenant": "a", "stars": 3}
    foreign, missing = (client.get(path + id, headers=tenants["a"]) for id in ("b-03", "a-99"))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["detail"].replace("b-03", "a-99") == missing.json()["detail"]


def test_the_command_makes_keys_for_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    arguments = ["keys", "new", "--name", "shop", "--scope", "read", "--file", str(file), "--filter"]
    assert main([*arguments, 'tenant = "shop"']) == 0
    (entry,) = KeyFile(file).ring.keys
    assert entry.rows is not None
    assert entry.rows.to_json() == {"must": [{"key": "tenant", "match": "shop"}]}
    capsys.readouterr()
    assert main([*arguments, "tenant = shop"]) == 2
    assert "'filter': is no filter: the filter, at character 10: expected a value" in capsys.readouterr().err
