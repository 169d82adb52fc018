"""Fields that filters name for the first time are read beside other requests, once, whoever still waits."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from tests.service.conftest import served
from udr import Retriever
from udr.store import DemonstrationTable
from udr.types import Json

ROW: dict[str, Any] = {"input": {"text": "an unheard of tune"}, "target": "glad", "metadata": {"site": "shop"}}
ASKED: dict[str, Any] = {"task": "notes", "input": "an unheard of tune", "k": 1, "filter": 'site = "shop"'}


class Held:
    """Holds up the reading of metadata until ``go`` is set, and counts it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.count, read = threading.Event(), 0, DemonstrationTable.metadata

        def metadata(table: DemonstrationTable, task: str) -> Iterator[Mapping[str, Json]]:
            self.count += 1
            assert self.go.wait(20)
            yield from read(table, task)

        monkeypatch.setattr(DemonstrationTable, "metadata", metadata)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    found = Held(monkeypatch)
    yield found
    found.go.set()


def test_others_do_not_wait_and_the_next_request_finds_it_done(copy: Path, held: Held) -> None:
    path = "/v1/tasks/notes/demonstrations"
    with (
        Retriever.open(copy, encoder=HashEncoder()) as retriever,
        served(retriever, timeout_seconds=5) as client,
    ):
        assert client.put(f"{path}/new", json=ROW).status_code == 201
        for late in (
            client.post("/v1/retrieve", json=ASKED, headers={"X-Udr-Timeout": "0.2"}),
            client.get(path, params={"filter": ASKED["filter"]}, headers={"X-Udr-Timeout": "0.2"}),
            client.post(f"{path}:batch", json={"filter": ASKED["filter"]}, headers={"X-Udr-Timeout": "0.2"}),
        ):
            assert (late.status_code, late.json()["type"]) == (504, "urn:udr:problem:deadline-exceeded")
        # Planning, counting and writing go on meanwhile, and so do filters on what is read.
        plain = {"task": "notes", "input": "a dull day", "k": 1}
        assert client.post("/v1/prompt", json={**plain, "budget": 200}).status_code == 200
        assert client.post("/v1/retrieve/batch", json={"requests": [plain] * 8}).status_code == 200
        assert client.put(f"{path}/other", json=ROW).status_code == 201
        held.go.set()
        found = client.post("/v1/retrieve", json={**ASKED, "keep_copies": True}).json()
        assert [item["id"] for item in found["demonstrations"]] == ["new"]
        # A field that no row of the version has needs no second reading.
        assert client.post("/v1/retrieve", json={**ASKED, "filter": "unknown exists"}).json()["demonstrations"] == []
    assert held.count == 1


def test_what_was_read_is_told_and_can_be_read_again(index: Path, held: Held) -> None:
    held.go.set()
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        assert retriever.fields_read == {}
        retriever.retrieve("notes", "a dull day", 1, filter='$target = "sad" and not site exists')
        assert retriever.fields_read == {"notes": {"$target"}}
        retriever.read_fields({"reviews": {"$id"}, "nodes": {"$id"}})
        assert retriever.fields_read == {"notes": {"$target"}, "reviews": {"$id"}}
