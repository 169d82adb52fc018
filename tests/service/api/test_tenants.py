"""Two tenants of one service, by the filters of their keys: to each, the other's rows do not exist.

Each request is also sent to a service with the rows of its tenant alone. The two answer alike, whatever the other
tenant writes meanwhile; so nothing of its rows shows in any answer.
"""

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from tests.index.builds import WORDS
from tests.service.conftest import served
from tests.udr.retrieval.conftest import note, open_pools
from tests.upstreams import Upstream, upstream
from udr.store.live import row_version
from udr.types import Row
from udr_service.auth import Scope, append, new_key

TENANTS = ("a", "b")
TASKS = ("notes", "diary")
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=3)) for number in range(30)]
OWN_FIELDS: dict[str, dict[str, Any]] = {"a": {"amber": 3}, "b": {"birch": "pale"}}
"""What only one tenant's rows have in their metadata."""

FILTERS: list[Any] = [
    None,
    "stars >= 3",
    'tenant = "a" or tenant = "b"',
    'not tenant = "a"',
    "tenant exists and not stars in [1, 2]",
    "amber = 3",
    'amber = "x"',
    'birch = "pale"',
    "birch > 1",
    "stars = true",
    'mixed = "text"',
    "mixed = 1",
    '$id in ["a-01", "b-01", "b-02"]',
    '$target = "sad" and not birch exists',
]


def metadata(tenant: str, number: int) -> dict[str, Any]:
    """The metadata of a row; one field has values of another kind for each tenant."""
    return {"tenant": tenant, "stars": number % 6, "mixed": number if tenant == "a" else "text", **OWN_FIELDS[tenant]}


class Sent(NamedTuple):
    """A request, and the ids that it puts."""

    method: str
    path: str
    options: dict[str, Any]
    puts: frozenset[str] = frozenset()


class House:
    """A service with the rows of both tenants, and one for each with its rows alone."""

    def __init__(self, root: Path, model: Upstream, stack: ExitStack) -> None:
        self.headers: dict[str, dict[str, str]] = {}
        for name in TENANTS:
            key, entry = new_key(name, Scope.WRITE, filter=f'tenant = "{name}"')
            append(root / "keys.toml", entry)
            self.headers[name] = {"X-Api-Key": key}
        self.model = model
        self.shared = self._service(root, "ab", stack)
        self.alone = {name: self._service(root, name, stack) for name in TENANTS}
        self.ids = {name: {f"{name}-{number:02}" for number in range(len(TEXTS))} for name in TENANTS}

    def _service(self, root: Path, tenants: str, stack: ExitStack) -> TestClient:
        rows: list[dict[str, Any]] = [
            {**note(f"{name}-{number:02}", text, ("glad", "sad")[number % 2]), "metadata": metadata(name, number)}
            for name in tenants
            for number, text in enumerate(TEXTS)
        ]
        retriever = stack.enter_context(
            open_pools(root / tenants, dict.fromkeys(TASKS, rows), bm25=True, label_head=False)
        )
        # Long, since a busy machine should fail no comparison.
        settings: dict[str, Any] = {"keys": root / "keys.toml", "upstream": self.model.url, "timeout_seconds": 100}
        return stack.enter_context(served(retriever, **settings))

    def answer(self, client: TestClient, tenant: str, sent: Sent) -> Any:
        """Return what a service answers, and what it sends upstream, but for what tells the services apart."""
        del self.model.requests[:]
        headers = {**self.headers[tenant], **sent.options.get("headers", {})}
        response = client.request(sent.method, sent.path, **{**sent.options, "headers": headers})
        content = response.json() if response.content else None
        told = {name: response.headers.get(name) for name in ("ETag", "X-Udr-Demonstrations", "X-Udr-Tokens")}
        return response.status_code, _plain(content), told, [each.content for each in self.model.requests]


def _plain(content: Any) -> Any:
    """Return an answer without version, position and ids of request and prompt; of a cursor, whether there is one."""
    if isinstance(content, list):
        return [_plain(item) for item in content]
    if not isinstance(content, dict):
        return content
    apart = ("index_version", "overlay_position", "request_id", "prompt_id")
    return {
        name: value is not None if name == "next" else _plain(value)
        for name, value in content.items()
        if name not in apart
    }


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack, upstream() as model:
        yield House(tmp_path, model, stack)


class Fuzz:
    """Requests of one tenant that try to reach the other's rows; all by one seed."""

    def __init__(self, house: House, tenant: str, seed: int) -> None:
        self.house, self.tenant, self.other = house, tenant, TENANTS[1 - TENANTS.index(tenant)]
        self.draw = random.Random(f"{seed} {tenant}")

    def next(self) -> Sent:
        """Return the next request."""
        kinds = (self.retrieve, self.batch, self.prompt, self.chat, self.embed, self.page, self.get, self.put)
        return self.draw.choice((*kinds, self.delete, self.write))()

    def id(self) -> str:
        """An id of its own, of the other tenant, or new."""
        number = self.draw.randrange(len(TEXTS) + 10)
        return f"{self.draw.choice([self.tenant, self.tenant, self.other])}-{number:02}"

    def query(self) -> dict[str, Any]:
        body: dict[str, Any] = {"input": self.draw.choice(TEXTS), "k": self.draw.randint(1, 12)}
        options: dict[str, Any] = {
            "mode": self.draw.choice(["dense", "bm25", "hybrid"]),
            "balance": True,
            "explain": True,
            "fill": True,
            "keep_copies": True,
            "exclude": [self.id() for _ in range(3)],
            "distinct": 0.9,
            "max_copy": 0.8,
            "min_similarity": 0.1,
            "candidates": 40,
            "filter": self.draw.choice(FILTERS),
        }
        return body | {name: options[name] for name in self.draw.sample(sorted(options), self.draw.randint(0, 6))}

    def retrieve(self) -> Sent:
        scope = self.draw.choice([{"task": self.draw.choice(TASKS)}, {"scope": "all"}, {"family": "mood"}])
        return Sent("POST", "/v1/retrieve", {"json": self.query() | scope})

    def batch(self) -> Sent:
        return Sent(
            "POST", "/v1/retrieve/batch", {"json": {"requests": [self.retrieve().options["json"] for _ in "abc"]}}
        )

    def prompt(self) -> Sent:
        body = self.query() | {"task": self.draw.choice(TASKS), "budget": self.draw.choice([60, 400])}
        body |= {"format": self.draw.choice(["text", "chat", "records"])}
        return Sent("POST", "/v1/prompt", {"json": body})

    def chat(self) -> Sent:
        options = self.query()
        messages = [{"role": "user", "content": options.pop("input")}]
        allowed = {name: value for name, value in options.items() if name not in ("explain", "fill")}
        body = {"model": "m", "messages": messages, "udr": {"task": self.draw.choice(TASKS), **allowed}}
        return Sent("POST", "/v1/chat/completions", {"json": body})

    def embed(self) -> Sent:
        return Sent(
            "POST", "/v1/embeddings", {"json": {"input": [self.draw.choice(TEXTS)], "input_type": "demonstration"}}
        )

    def path(self) -> str:
        return f"/v1/tasks/{self.draw.choice(TASKS)}/demonstrations"

    def page(self) -> Sent:
        wanted = self.draw.choice(FILTERS)
        filter = {} if wanted is None else {"filter": wanted}
        return Sent("GET", self.path(), {"params": {"limit": self.draw.randint(1, 40), **filter}})

    def get(self) -> Sent:
        return Sent("GET", f"{self.path()}/{self.id()}", {})

    def put(self) -> Sent:
        id = self.id()
        return Sent("PUT", f"{self.path()}/{id}", {"json": self.row(), "headers": self.conditions()}, frozenset({id}))

    def delete(self) -> Sent:
        return Sent("DELETE", f"{self.path()}/{self.id()}", {"headers": self.conditions()})

    def write(self) -> Sent:
        put = {self.id(): self.row() for _ in range(self.draw.randint(0, 2))}
        body: dict[str, Any] = {"put": [{"id": id, **row} for id, row in put.items()]}
        if self.draw.random() < 0.5:
            body["delete"] = sorted({self.id() for _ in range(2)} - set(put))
        elif self.draw.random() < 0.3:
            body["filter"] = f"stars = {self.draw.randrange(6)} and {self.draw.choice(FILTERS[1:])}"
        return Sent("POST", f"{self.path()}:batch", {"json": body, "headers": self.conditions()}, frozenset(put))

    def row(self) -> dict[str, Any]:
        """A row of its own, or rarely one of the other tenant."""
        whose = self.other if self.draw.random() < 0.1 else self.tenant
        own = {"input": {"text": self.draw.choice(TEXTS)}, "target": self.draw.choice(["glad", "sad"])}
        return {**own, "metadata": metadata(whose, self.draw.randrange(6))}

    def conditions(self) -> dict[str, str]:
        """Keys for writes that both tenants use, and guesses of a row's version."""
        headers: dict[str, str] = {}
        if self.draw.random() < 0.3:
            headers["Idempotency-Key"] = str(self.draw.randrange(5))
        if self.draw.random() < 0.3:
            number = self.draw.randrange(len(TEXTS))
            target = ("glad", "sad")[number % 2]
            id, data = f"{self.other}-{number:02}", metadata(self.other, number)
            guess = row_version(Row(id=id, input={"text": TEXTS[number]}, target=target, metadata=data))
            headers["If-Match"] = self.draw.choice(["*", f'"{guess}"'])
        return headers


def check(house: House, count: int, seed: int = 0) -> Counter[str]:
    """Send requests of both tenants in turn; return how many were answered with each status, by route."""
    fuzzes, seen = [Fuzz(house, name, seed) for name in TENANTS], Counter[str]()
    for number in range(count):
        fuzz = fuzzes[number % 2]
        sent = fuzz.next()
        taken = _all_ids(house, fuzz.other, sent.path) if sent.puts else set()
        answer = house.answer(house.shared, fuzz.tenant, sent)
        if clash := sent.puts & taken:
            # The one thing that shows: an id has one row. Nothing of the row does, whatever the conditions.
            assert answer[0] == 422, (sent, answer)
            if "cannot be used" in answer[1]["detail"]:
                assert answer[1]["detail"] in {f"the id {id!r} cannot be used; choose another" for id in clash}
        else:
            assert answer == house.answer(house.alone[fuzz.tenant], fuzz.tenant, sent), sent
        seen[f"{sent.method} {sent.path.split('/')[2]} {answer[0]}"] += 1
    for name in TENANTS:
        for task in TASKS:
            every = Sent("GET", f"/v1/tasks/{task}/demonstrations", {"params": {"limit": 1000}})
            rows = house.answer(house.shared, name, every)
            assert rows == house.answer(house.alone[name], name, every)
            assert {row["metadata"]["tenant"] for row in rows[1]["demonstrations"]} <= {name}
    return seen


def _all_ids(house: House, tenant: str, path: str) -> set[str]:
    task = path.split("/")[3]
    every = Sent("GET", f"/v1/tasks/{task}/demonstrations", {"params": {"limit": 1000}})
    return {row["id"] for row in house.answer(house.alone[tenant], tenant, every)[1]["demonstrations"]}


def test_a_tenant_is_answered_as_if_it_were_alone(house: House) -> None:
    seen = check(house, 200)
    assert {"POST retrieve 200", "POST prompt 200", "POST chat 200", "GET tasks 404", "PUT tasks 412"} <= set(seen)


def test_a_condition_on_a_version_tells_nothing_of_other_rows(house: House) -> None:
    path, guess = f"/v1/tasks/{TASKS[0]}/demonstrations:batch", {"If-Match": f'"{16 * "0"}"'}
    for body in ({"delete": ["b-03"]}, {"filter": "stars = 3"}, {"filter": 'birch = "pale"'}):
        sent = Sent("POST", path, {"json": body, "headers": guess})
        answer = house.answer(house.shared, "a", sent)
        assert answer == house.answer(house.alone["a"], "a", sent)
        assert "birch" in str(body) or answer[0] == 412
    refused = house.shared.post(path, json={"delete": ["b-03"]}, headers={**house.headers["a"], **guess})
    assert refused.json()["detail"] == "the write is for a row that is there, but 'notes' has no 'b-03'"


def test_a_cursor_is_of_one_tenant(house: House) -> None:
    path, own = f"/v1/tasks/{TASKS[0]}/demonstrations", house.headers["a"]
    cursors = {
        name: house.shared.get(path, params={"limit": 5}, headers=house.headers[name]).json()["next"]
        for name in TENANTS
    }
    other = house.shared.get(path, params={"after": cursors["b"]}, headers=own)
    assert (other.status_code, "of a list of another task" in other.json()["detail"]) == (422, True)
    version, listed, _ = json.loads(base64.urlsafe_b64decode(cursors["a"] + "=="))
    for start in ("a-27", "b-03"):
        forged = base64.urlsafe_b64encode(json.dumps([version, listed, start]).encode()).decode().rstrip("=")
        page = house.shared.get(path, params={"after": forged}, headers=own).json()
        assert [row["id"] for row in page["demonstrations"]] == (["a-28", "a-29"] if start[0] == "a" else [])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_tenant_is_answered_as_if_it_were_alone_thousands_of_times(house: House) -> None:
    seen = check(house, 5_000, seed=1)
    assert sum(seen.values()) == 5_000
