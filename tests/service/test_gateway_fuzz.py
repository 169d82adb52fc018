"""Chats of all kinds against the gateway: what fails on the server's side is the upstream's."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.service.conftest import Words
from tests.service.running import running
from tests.upstreams import Exchange, Upstream, completes, upstream
from udr.retrieval import Retriever
from udr_service import Settings, create_app

CHAT = "/v1/chat/completions"
ODD: list[Any] = [
    None,
    True,
    -1,
    0.5,
    1e300,
    10**30,
    "",
    "x",
    "\x00",
    "\ud800",
    "🙂" * 9,
    [],
    {},
    [[]],
    {"": {}},
    [None] * 3,
]
TASKS = ["notes", "reviews", "questions", "other", "", "@", "notes@", "NOTES", "n" * 300]
ROLES = ["system", "developer", "user", "assistant", "tool", "function", "", 7, None, ["user"]]
OPTIONS: dict[str, list[Any]] = {
    "task": TASKS,
    "k": [1, 8, 20, 0, -1, 256, 257, 10**9, "2", 2.0],
    "input": ["a dull day", {"text": "a"}, {"thing": "lamp", "text": "x"}, {"text": None}, {"text": [1, [2]]}],
    "budget": [1, 10, 10**9, 0, "7"],
    "order": ["nearest_first", "alternate_labels", "shuffle", "none"],
    "layout": ["turns", "system", "other"],
    "seed": [0, -5, 2**70],
    "filter": ['$target = "sad"', "a >", {"must": []}, {"must": [{"key": "$id", "match": "n00"}]}],
    "mode": ["dense", "bm25", "hybrid", "x"],
    "min_similarity": [0.1, -1, 2, "x"],
    **{name: [0, 0.5, 1, -1, "x"] for name in ("distinct", "diversity", "max_copy", "coverage", "weight")},
    **{name: [True, False, 1] for name in ("balance", "keep_copies", "explain", "label_head")},
    "exclude": [["n00"], [1], "n00"],
    "candidates": [1, 8, 50, 10**6],
}


class Chats:
    """Makes chats, valid ones and others, all by one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _any(self, *values: Any, odd: float = 0.1) -> Any:
        return self._random.choice(ODD if self._random.random() < odd else list(values))

    def body(self) -> bytes:
        """Return the content of a request."""
        keys = {
            "model": self._any("fake", "notes@fake", "reviews@x@y", "@", "claude@2024", "questions@"),
            "messages": self._any([self._message() for _ in range(self._random.randint(0, 6))]),
            "udr": self._any(*[self._options() for _ in range(3)], None, odd=0.2),
            **{name: self._any(0.5, True, [{"type": "function"}]) for name in ("stream", "tools", "temperature")},
        }
        shown = [item for item in keys.items() if self._random.random() < 0.7]
        self._random.shuffle(shown)
        text = json.dumps(dict(shown), ensure_ascii=self._random.random() < 0.7, indent=self._random.choice([None, 1]))
        content = text.encode("utf-8", "surrogatepass")
        if self._random.random() < 0.1:
            place = self._random.randrange(len(content) + 1)
            cut = self._random.choice([b"", b"\xff", b'"', b"{", b"]", b"\\", b",", b"\x00", b"1"])
            content = content[:place] + cut + content[place + self._random.randint(0, 3) :]
        return content

    def _message(self) -> Any:
        parts = [{"type": self._any("text", "image_url"), "text": self._any("a dull day")} for _ in range(2)]
        content = self._any("a dull grey day", "what a fine monday", " ", None, parts)
        members = {"role": self._any(*ROLES, "user", "user", "system"), "content": content, "name": self._any("n")}
        return self._any({name: value for name, value in members.items() if self._random.random() < 0.9})

    def _options(self) -> dict[str, Any]:
        names = self._random.sample(sorted(OPTIONS), self._random.randint(0, 3))
        chosen = {name: self._any(*OPTIONS[name]) for name in names}
        return (
            {"task": self._random.choice(["notes", "questions"]), **chosen} if self._random.random() < 0.7 else chosen
        )

    def headers(self) -> dict[str, str]:
        """Return some headers."""
        headers = {
            "Content-Type": self._any("application/json", odd=0) if self._random.random() < 0.95 else "text/plain"
        }
        named = {
            "X-Udr-Task": self._random.choice(["notes", "questions", "other", "n%C3%A4"]),
            "X-Udr-Timeout": self._random.choice(["5", "x", "-1", "nan"]),
        }
        return headers | {name: value for name, value in named.items() if self._random.random() < 0.1}


@pytest.fixture
def model() -> Iterator[Upstream]:
    with upstream() as fake:
        fake.behave = fails_at_times
        yield fake


def fails_at_times(exchange: Exchange) -> None:
    """Answer every tenth request with an error of the server's, the others as usual."""
    # Whatever is forwarded is JSON, without what is udr's.
    size = len(exchange.received.content)
    assert exchange.received.body.get("udr") is None
    if size % 10 == 0:
        exchange.answer(500 + size % 7, b"{}", X_Fake="1")
    else:
        completes(exchange)


def test_hundreds_of_chats(retriever: Retriever, model: Upstream) -> None:
    fuzz(retriever, model, 300)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_chats(retriever: Retriever, model: Upstream) -> None:
    fuzz(retriever, model, 10_000)


def fuzz(retriever: Retriever, model: Upstream, count: int) -> None:
    """Send chats; every error of a server is the upstream's, and every other one is told in OpenAI's shape."""
    chats, statuses = Chats(seed=1), Counter[int]()
    with (
        running(create_app(retriever, Settings(upstream=model.url), Words())) as address,
        httpx2.Client(base_url=address, timeout=30) as client,
    ):
        for _ in range(count):
            content = chats.body()
            answer = client.post(CHAT, content=content, headers=chats.headers())
            statuses[answer.status_code] += 1
            if model.requests:
                model.requests.clear()
            else:
                assert 400 <= answer.status_code < 500, (answer.status_code, content)
                assert answer.json()["error"]["message"], content
            if answer.status_code >= 500:
                assert answer.headers["X-Fake"] == "1", (answer.status_code, content)
    assert statuses[200] > count // 4 and {400, 404, 415, 422, 500} <= statuses.keys(), statuses
