"""Writing to a pool and listing its rows over REST, and with both clients."""

import asyncio
import base64
import errno
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Send
from starlette.types import Scope as ASGIScope

from tests.fakes import HashEncoder
from tests.service.conftest import Words, served
from tests.service.running import running
from udr import AsyncClient, Client, Retriever, Row
from udr.errors import ConflictError, InvalidInputError, UnknownTaskError
from udr.store.live import row_version
from udr_service import Settings, create_app
from udr_service.auth import Scope, new_key

PATH = "/v1/tasks/notes/demonstrations"
BODY: dict[str, Any] = {"input": {"text": "an unheard of tune"}, "target": "glad", "metadata": {"site": "shop"}}
ASKED: dict[str, Any] = {"task": "notes", "input": "an unheard of tune", "k": 1, "keep_copies": True}


@pytest.fixture
def opened(copy: Path) -> Iterator[Retriever]:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        yield retriever


@pytest.fixture
def live(opened: Retriever) -> Iterator[TestClient]:
    with served(opened) as client:
        yield client


def test_what_lies_on_top_of_the_version_is_told(live: TestClient, copy: Path) -> None:
    def told() -> tuple[list[int], list[int]]:
        info, metrics = live.get("/v1/info").json(), live.get("/metrics").text
        names = ("overlay_rows", "overlay_bytes")
        gauges = [re.search(rf"^udr_{name} (\S+)$", metrics, re.MULTILINE) for name in names]
        return [info[name] for name in names], [int(float(found[1])) for found in gauges if found]

    assert told() == ([0, 0], [0, 0])
    live.put(f"{PATH}/new", json=BODY)
    live.put(f"{PATH}/new", json={**BODY, "target": "sad"})
    live.delete(f"{PATH}/n00")
    now = [2, (copy / "live/log").stat().st_size]
    assert told() == (now, now)


def test_put_get_and_delete_a_row(live: TestClient) -> None:
    new = live.put(f"{PATH}/new", json=BODY)
    row = {"id": "new", "task": "notes", "choices": [], "references": [], **BODY}
    assert (new.status_code, new.json(), new.headers["X-Udr-Overlay-Position"]) == (201, row, "1")
    found = live.post("/v1/retrieve", json=ASKED)
    assert found.json()["demonstrations"][0]["id"] == "new"
    assert found.json()["overlay_position"] == 1 == int(found.headers["X-Udr-Overlay-Position"])
    prompt = live.post("/v1/prompt", json={**ASKED, "budget": 200})
    assert prompt.json()["overlay_position"] == 1
    again = live.put(f"{PATH}/new", json={**BODY, "target": "sad"})
    assert (again.status_code, again.json()) == (200, {**row, "target": "sad"})
    got = live.get(f"{PATH}/new")
    assert (got.json(), got.headers["ETag"]) == (again.json(), again.headers["ETag"])
    assert live.get("/v1/tasks/notes").json()["demonstrations"] == 21
    assert [item["demonstrations"] for item in live.get("/v1/tasks").json()["tasks"]] == [21, 24, 18]
    deleted = live.delete(f"{PATH}/new")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert live.get(f"{PATH}/new").status_code == live.delete(f"{PATH}/new").status_code == 404
    assert live.post("/v1/retrieve", json=ASKED).json()["demonstrations"][0]["id"] != "new"


def test_a_row_that_must_be_new_replaces_none(live: TestClient) -> None:
    new = {"If-None-Match": "*"}
    assert live.put(f"{PATH}/one", json=BODY, headers=new).status_code == 201
    refused = live.put(f"{PATH}/one", json={**BODY, "target": "sad"}, headers=new)
    assert (refused.status_code, refused.json()["type"]) == (412, "urn:udr:problem:row-changed")
    assert refused.json()["detail"] == "the write is for a new row, but 'notes' has 'one'; choose another id"
    both = {"put": [{"id": id, **BODY, "target": "sad"} for id in ("one", "two")]}
    assert live.post(f"{PATH}:batch", json=both, headers=new).status_code == 412
    assert live.get(f"{PATH}/one").json()["target"] == "glad" and live.get(f"{PATH}/two").status_code == 404
    refused = live.put(f"{PATH}/two", json=BODY, headers={"If-None-Match": '"0123"'})
    assert refused.status_code == 422 and "If-None-Match must be * in a write" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("path", "takes"),
    [
        (f"{PATH}?filtr=x&limit=2", "'filtr'; this path takes after, limit, filter, counts"),
        (f"{PATH}/n07?count=true", "'count'; this path takes counts"),
        ("/v1/info?verbose=1", "'verbose'; this path takes none"),
    ],
)
def test_query_parameters_that_a_path_does_not_take_are_refused(live: TestClient, path: str, takes: str) -> None:
    refused = live.get(path)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:udr:problem:invalid-input")
    assert refused.json()["detail"] == f"there is no query parameter {takes}"
    # OpenAI's clients may send others.
    assert live.get("/v1/models?api-version=1").status_code == 200


def test_a_full_disk_refuses_writes_which_is_told_once_and_leaves_reading_as_it_was(
    live: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert live.put(f"{PATH}/kept", json=BODY).status_code == 201
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        refused = [live.put(f"{PATH}/lost", json=BODY) for _ in range(3)][-1]
    (told,) = (message for message in caplog.messages if message.startswith("a write could not be stored: "))
    assert told.endswith("No space left on device; free some space and try again; what is complete is kept")
    assert 'udr_refused_total{reason="storage"} 3.0' in live.get("/metrics").text
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:udr:problem:storage")
    assert "No space left" in refused.json()["detail"]
    assert [live.get(f"{PATH}/{id}").status_code for id in ("kept", "lost")] == [200, 404]
    assert live.post("/v1/retrieve", json=ASKED).json()["demonstrations"][0]["id"] == "kept"
    assert live.put(f"{PATH}/lost", json=BODY).status_code == 201


def test_while_writes_wait_for_the_disk_reads_go_on_and_deadlines_hold(
    live: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, go_on = threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        syncing.set()
        assert go_on.wait(60)

    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(40) as threads:
        puts = [threads.submit(live.put, f"{PATH}/w0", json=BODY)]
        try:
            assert syncing.wait(60)
            late = live.put(f"{PATH}/late", json=BODY, headers={"X-Udr-Timeout": "0.5"})
            # More than asyncio has threads, whatever the machine.
            puts += [threads.submit(live.put, f"{PATH}/w{number}", json=BODY) for number in range(1, 40)]
            found = live.post("/v1/retrieve", json=ASKED, headers={"X-Udr-Timeout": "5"})
        finally:
            go_on.set()
    assert (late.status_code, found.status_code) == (504, 200)
    assert "send it again with the same Idempotency-Key" in late.json()["detail"]
    assert found.headers["X-Udr-Overlay-Position"] == "0"
    assert [put.result().status_code for put in puts] == [201] * 40
    # What no one waits for any more is written, too.
    assert live.put(f"{PATH}/late", json=BODY).status_code == 200


def test_a_write_may_depend_on_the_version_of_a_row(live: TestClient) -> None:
    tag = live.get(f"{PATH}/n00").headers["ETag"]
    assert live.put(f"{PATH}/n00", json=BODY, headers={"If-Match": tag}).status_code == 200
    changed = live.put(f"{PATH}/n00", json=BODY, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["type"]) == (412, "urn:udr:problem:row-changed")
    assert live.put(f"{PATH}/new", json=BODY, headers={"If-Match": "*"}).status_code == 412
    assert live.delete(f"{PATH}/n00", headers={"If-Match": tag}).status_code == 412
    assert live.delete(f"{PATH}/n00", headers={"If-Match": "tag"}).status_code == 422


def test_a_key_makes_a_write_once(live: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    assert [live.put(f"{PATH}/new", json=BODY, headers=key).status_code for _ in range(2)] == [201, 201]
    assert live.get(f"{PATH}/new").headers["X-Udr-Overlay-Position"] == "1"
    assert live.put(f"{PATH}/new", json={**BODY, "target": "sad"}, headers=key).status_code == 422
    used = live.delete(f"{PATH}/new", headers=key)
    assert (used.status_code, used.json()["detail"][:38]) == (422, "the Idempotency-Key 'one' was used for")
    for length, status in ((0, 422), (256, 201), (257, 422)):
        put = live.put(f"{PATH}/long", json=BODY, headers={"Idempotency-Key": "k" * length})
        assert put.status_code == status, put.json()
        assert status == 201 or put.json()["detail"].endswith(f"must have 1 to 256 characters, found {length}")
    live.delete(f"{PATH}/long")
    batch = {"put": [{"id": "b", **BODY}], "delete": ["n00", "nx"]}
    first, again = (live.post(f"{PATH}:batch", json=batch, headers={"Idempotency-Key": "two"}).json() for _ in "ab")
    assert (first["created"], first["deleted"], first["overlay_position"]) == (["b"], ["n00"], 4)
    assert (again["created"], again["repeated"], again["overlay_position"]) == (["b"], True, 4)


def test_half_a_character_is_the_id_of_no_row(live: TestClient) -> None:
    body, headers = rb'{"delete": ["n00", "\ud800"]}', {"Content-Type": "application/json"}
    deleted = live.post(f"{PATH}:batch", content=body, headers=headers)
    assert (deleted.status_code, deleted.json()["deleted"]) == (200, ["n00"])
    cursor = live.get(PATH, params={"limit": 1}).json()["next"]
    version, listed, _ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([version, listed, "\ud800"]).encode()).decode()
    assert live.get(PATH, params={"after": forged}).json()["demonstrations"] == []


def test_bounds_of_whole_numbers_are_exact(live: TestClient) -> None:
    accounts = {"a": 2**53, "b": 2**53 + 1, "c": 10**400}
    rows = [{"id": id, **BODY, "metadata": {"account": account}} for id, account in accounts.items()]
    assert live.post(f"{PATH}:batch", json={"put": rows}).status_code == 200
    for bounds, passing in (
        ({"gte": 2**53 + 1}, ["b", "c"]),
        ({"lt": 10**400}, ["a", "b"]),
        ({"lte": 1.5e16}, ["a", "b"]),
    ):
        wanted = {"must": [{"key": "account", "range": bounds}]}
        found = live.post("/v1/retrieve", json={**ASKED, "k": 3, "filter": wanted}).json()
        assert sorted(item["id"] for item in found["demonstrations"]) == passing
    for bound in ("true", "NaN"):
        text = json.dumps({"filter": {"must": [{"key": "account", "range": {"gt": 0}}]}}).replace("0", bound)
        refused = live.post(f"{PATH}:batch", content=text, headers={"Content-Type": "application/json"})
        assert (refused.status_code, "/gt: must be a" in refused.json()["detail"]) == (422, True), refused.json()
    batch = {"filter": {"must": [{"key": "account", "range": {"gt": 2**53}}]}}
    assert live.post(f"{PATH}:batch", json=batch).json()["deleted"] == ["b", "c"]


def test_an_id_with_line_breaks_is_the_row_of_its_path(live: TestClient) -> None:
    ids = ["a", "a\n", "a\nb\n"]
    assert live.post(f"{PATH}:batch", json={"put": [{"id": id, **BODY} for id in ids]}).status_code == 200
    for id in reversed(ids):
        path = f"{PATH}/{quote(id)}"
        assert live.get(path).json()["id"] == live.put(path, json=BODY).json()["id"] == id
        assert live.delete(path).status_code == 204 and live.get(path).status_code == 404


@pytest.mark.parametrize(
    ("part", "url"), [("path", f"{PATH}/caf%E9"), ("path", f"{PATH}/%ED%A0%80"), ("query", f"{PATH}?after=%FF")]
)
def test_a_url_that_is_not_utf_8_is_refused(live: TestClient, part: str, url: str) -> None:
    answer = live.put(url, json=BODY) if part == "path" else live.get(url)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:udr:problem:malformed-request")
    assert f"the {part} of the URL is not UTF-8" in answer.json()["detail"]


def test_pages(live: TestClient) -> None:
    live.post(f"{PATH}:batch", json={"put": [{"id": f"m{n}", **BODY} for n in range(5)], "filter": '$id = "n03"'})
    found, after = list[str](), None
    while True:
        page = live.get(PATH, params={"limit": 7, **({"after": after} if after else {})}).json()
        found += [row["id"] for row in page["demonstrations"]]
        if (after := page["next"]) is None:
            break
    assert found == sorted({f"n{n:02}" for n in range(20)} - {"n03"} | {f"m{n}" for n in range(5)})
    shop = live.get(PATH, params={"filter": 'site = "shop"', "limit": 2}).json()
    assert [row["id"] for row in shop["demonstrations"]] == ["m0", "m1"]
    as_json = live.get(PATH, params={"filter": '{"must": [{"key": "site", "match": "shop"}]}'}).json()
    assert len(as_json["demonstrations"]) == 5


def test_large_pages_and_rows_are_sent_in_parts_and_pages_take_room(opened: Retriever) -> None:
    app, sent = create_app(opened, Settings(max_bodies_bytes=2_000_000, max_body_bytes=2_000_000), Words()), list[int]()

    async def counted(scope: ASGIScope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            sent.append(len(message.get("body", b"")))
            await send(message)

        await app(scope, receive, send_on)

    long = {**BODY, "metadata": {"text": "é" * 50_000}}
    with TestClient(counted) as client:
        assert client.put(f"{PATH}/a0", json=long).status_code == 201
        client.post(f"{PATH}:batch", json={"put": [{"id": f"a{number}", **long} for number in range(1, 10)]})
        page = client.get(PATH, params={"limit": 10})
        assert page.json()["demonstrations"] == [client.get(f"{PATH}/a{number}").json() for number in range(10)]
        assert len(page.content) > 1_000_000 and max(sent) < 200_000
        assert client.get(f"{PATH}/a1").headers["ETag"] == client.put(f"{PATH}/a1", json=long).headers["ETag"]
        app.state.service.room.hold(1_500_000)
        refused = client.get(PATH, params={"limit": 10})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:udr:problem:busy")


@pytest.mark.parametrize("body", [{"put": []}, {"delete": []}], ids=str)
def test_empty_lists_change_nothing(live: TestClient, body: dict[str, Any]) -> None:
    before = live.get(PATH).json()["overlay_position"]
    answer = live.post(f"{PATH}:batch", json=body).json()
    assert (answer["created"], answer["deleted"], answer["overlay_position"]) == ([], [], before)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "detail"),
    [
        ("PUT", "new", {"json": {"input": {}, "target": "glad"}}, 422, "is missing, but the input template"),
        ("PUT", "new", {"json": {**BODY, "target": "blue"}}, 422, "not one of the labels"),
        ("PUT", "new", {"json": {**BODY, "id": "new"}}, 422, "/id: is not a field"),
        ("PUT", "n" * 513, {"json": BODY}, 422, "at most 512 characters, found 513"),
        ("GET", "?filter=site > 3", {}, 422, "compares 'site' with a number, but the rows have a text there"),
        ("GET", "?filter=site >", {}, 422, "expected a value"),
        ("GET", "?after=n03", {}, 422, "the next of an earlier page"),
        ("GET", "?limit=0", {}, 422, "limit: must be greater than or equal to 1"),
        ("POST", ":batch", {"json": {}}, 422, "there is nothing to write"),
        ("POST", ":batch", {"json": {"put": [{"id": "a", **BODY}], "delete": ["a"]}}, 422, "both to put and to delete"),
        ("POST", ":batch", {"json": {"put": [{"id": "a", **BODY}] * 65}}, 413, "65 items; the limit is 64"),
    ],
)
def test_bad_input(live: TestClient, method: str, path: str, options: dict[str, Any], status: int, detail: str) -> None:
    live.put(f"{PATH}/typed", json=BODY)
    whole = PATH + (path if path[0] in "?:" else f"/{path}")
    response = live.request(method, whole, **options)
    assert response.status_code == status
    assert detail in response.json()["detail"]
    assert live.get(f"{PATH}/typed").headers["X-Udr-Overlay-Position"] == "1"


def test_who_may_write(opened: Retriever, tmp_path: Path) -> None:
    keys = {scope: new_key(scope, Scope(scope), (), (), None) for scope in ("read", "write", "admin")}
    (tmp_path / "keys.toml").write_text("".join(entry.to_toml() for _, entry in keys.values()))
    with served(opened, keys=tmp_path / "keys.toml") as client:
        statuses = {
            scope: client.put(f"{PATH}/{scope}", json=BODY, headers={"X-Api-Key": key}).status_code
            for scope, (key, _) in keys.items()
        }
        assert statuses == {"read": 403, "write": 201, "admin": 201}
        assert client.get(PATH, headers={"X-Api-Key": keys["write"][0]}).status_code == 200
        assert client.get("/metrics", headers={"X-Api-Key": keys["write"][0]}).status_code == 403
        assert client.put(f"{PATH}/none", json=BODY).status_code == 401
    with served(opened, insecure_no_keys=True) as client:
        refused = client.put(f"{PATH}/open", json=BODY)
        assert (refused.status_code, "scope write" in refused.json()["detail"]) == (401, True)
        assert client.get(PATH).status_code == 200
    with served(opened) as client:
        foreign = client.put(f"{PATH}/page", json=BODY, headers={"Origin": "https://elsewhere.example"})
        assert foreign.status_code == 403


def test_a_service_that_is_not_the_writer_refuses_writes(copy: Path, opened: Retriever) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as writer, served(opened) as client:
        writer.put("notes", {"id": "new", **BODY})
        assert client.post("/v1/retrieve", json=ASKED).json()["demonstrations"][0]["id"] == "new"
        refused = client.put(f"{PATH}/other", json=BODY)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:udr:problem:not-writer")


def test_clients(opened: Retriever) -> None:
    row = Row(id="new", input={"text": "an unheard of tune"}, target="glad", metadata={"site": "shop"})
    with running(create_app(opened, Settings(), Words())) as address, Client(address) as client:
        assert client.put("notes", row).created == ("new",)
        assert client.demonstration("notes", "new") == row
        assert client.retrieve("notes", "an unheard of tune", 1, keep_copies=True).overlay_position == 1
        assert [
            item.id for item in client.demonstrations("notes", filter={"must": [{"key": "site", "match": "shop"}]}).rows
        ] == ["new"]
        page = client.demonstrations("notes", limit=20)
        assert [item.id for item in client.demonstrations("notes", limit=20, after=page.next).rows] == ["new"]
        with pytest.raises(ConflictError, match="which has version"):
            client.put("notes", row, if_match="0" * 16)
        assert client.put("notes", row.to_json(), if_match=row_version(row)).replaced == ("new",)
        with pytest.raises(InvalidInputError, match=r"'input\.text': is missing"):
            client.put("notes", {"id": "a", "input": {}, "target": "glad"})
        with pytest.raises(UnknownTaskError):
            client.delete("nodes", "new")

        async def use() -> None:
            async with AsyncClient(address) as other:
                assert (await other.delete("notes", filter='site = "shop"')).deleted == ("new",)
                assert (await other.put("notes", [row])).position == 4
                assert len((await other.demonstrations("notes")).rows) == 21

        asyncio.run(use())
