"""Keys for some tasks only, and with limits of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import BODY, served
from udr.cli import main
from udr.retrieval import Retriever
from udr_service.auth import Allowance, KeyFile, Scope, append, new_key


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """A file of keys, and the header of each: for all tasks, for one, and for a family."""
    headers = {}
    for name, tasks, families in (("all", [], []), ("notes", ["notes"], []), ("mood", [], ["mood"])):
        key, entry = new_key(name, Scope.READ, tasks, families)
        append(tmp_path / "keys.toml", entry)
        headers[name] = {"Authorization": f"Bearer {key}"}
    return tmp_path / "keys.toml", headers


@pytest.fixture
def service(retriever: Retriever, keys: tuple[Path, Any]) -> Iterator[TestClient]:
    with served(retriever, keys=keys[0]) as client:
        yield client


QUERIES: dict[str, dict[str, Any]] = {
    "notes": BODY,
    "reviews": {"task": "reviews", "input": {"thing": "chair", "text": "fine"}, "k": 1},
    "questions": {"task": "questions", "input": "where is it", "k": 1},
    "unknown": {"task": "unknown", "input": "a", "k": 1},
    "mood": {"family": "mood", "input": "a dull day", "k": 1},
    "everything": {"scope": "all", "input": "a dull day", "k": 1},
}


@pytest.mark.parametrize(
    ("key", "passed"),
    [("all", {*QUERIES} - {"unknown"}), ("notes", {"notes"}), ("mood", {"notes", "reviews", "mood"})],
)
def test_a_key_is_for_its_tasks_and_families(
    service: TestClient, keys: tuple[Path, dict[str, dict[str, str]]], key: str, passed: set[str]
) -> None:
    headers = keys[1][key]
    statuses = {name: service.post("/v1/retrieve", json=body, headers=headers) for name, body in QUERIES.items()}
    assert {name for name, answer in statuses.items() if answer.status_code == 200} == passed
    refused = {answer.status_code for name, answer in statuses.items() if name not in passed}
    assert refused == ({404} if key == "all" else {403})
    batch = service.post("/v1/retrieve/batch", json={"requests": [*QUERIES.values()]}, headers=headers).json()
    assert [result.get("status", 200) for result in batch["results"]] == [
        answer.status_code for answer in statuses.values()
    ]


def test_a_refusal_says_what_the_key_is_for(service: TestClient, keys: tuple[Path, Any]) -> None:
    answer = service.post("/v1/retrieve", json=QUERIES["questions"], headers=keys[1]["notes"])
    assert answer.json()["type"] == "urn:udr:problem:forbidden"
    assert answer.json()["detail"] == "the key 'notes' is for the tasks notes; the request is for the task 'questions'"


def test_a_key_sees_only_its_tasks(service: TestClient, keys: tuple[Path, Any]) -> None:
    headers = keys[1]["notes"]
    assert [task["name"] for task in service.get("/v1/tasks", headers=headers).json()["tasks"]] == ["notes"]
    info = service.get("/v1/info", headers=headers).json()
    assert ([task["name"] for task in info["tasks"]], list(info["families"])) == (["notes"], ["mood"])
    assert info["demonstrations"] == info["tasks"][0]["demonstrations"]
    for path in ("/v1/tasks/questions", "/v1/tasks/questions/demonstrations/q01", "/v1/tasks/unknown"):
        assert service.get(path, headers=headers).status_code == 403
    assert service.get("/v1/tasks/notes/demonstrations/n01", headers=headers).status_code == 200
    prompt = {**QUERIES["questions"], "budget": 100}
    assert service.post("/v1/prompt", json=prompt, headers=headers).status_code == 403


def test_an_entry_limits_its_client(retriever: Retriever, keys: tuple[Path, Any]) -> None:
    path, headers = keys
    path.write_text(path.read_text().replace('name = "mood"', 'name = "mood"\nrequests_per_second = 1'))
    with served(retriever, keys=path) as service:
        answers = [service.post("/v1/retrieve", json=BODY, headers=headers["mood"]) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        assert answers[-1].json()["type"] == "urn:udr:problem:client-limit"
        assert "the key 'mood' is above its limit of 1 requests a second" in answers[-1].json()["detail"]
        assert service.post("/v1/retrieve", json=BODY, headers=headers["all"]).status_code == 200


def test_an_entry_overrides_only_what_it_sets(keys: tuple[Path, Any]) -> None:
    path, _ = keys
    path.write_text(path.read_text().replace('name = "all"', 'name = "all"\nconcurrent_requests = 3'))
    entry = KeyFile(path).ring.keys[0]
    assert entry.allowance(Allowance(queue_share=0.5)) == Allowance(concurrent_requests=3, queue_share=0.5)


def test_the_command_makes_keys_for_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    arguments = ["--name", "app", "--scope", "read", "--task", "größe", "--family", "mood", "--file", str(file)]
    assert main(["keys", "new", *arguments]) == 0
    assert capsys.readouterr().out.startswith("udr_")
    (entry,) = KeyFile(file).ring.keys
    assert (entry.tasks, entry.families) == (["größe"], ["mood"])
