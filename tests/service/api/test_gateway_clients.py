"""The gateway as the libraries that people use call it: OpenAI's own, LiteLLM and LangChain's chat models."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import openai
import pytest

from tests.documentation.pages import ROOT, blocks
from tests.fakes import HashEncoder
from tests.service.conftest import Words
from tests.service.running import running
from tests.upstreams import Upstream, refuses, upstream
from udr.retrieval import Retriever
from udr_service import Settings, create_app

TEXTS = ["a dull day", "what a fine monday"]
MESSAGES: list[Any] = [{"role": "user", "content": "a dull grey day"}]
TURNS = 17
"""Eight demonstrations of two turns, and the query."""


@pytest.fixture
def model() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


@pytest.fixture
def address(retriever: Retriever, model: Upstream) -> Iterator[str]:
    with running(create_app(retriever, Settings(upstream=model.url), Words())) as address:
        yield f"{address}/v1"


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="sk-1", max_retries=0) as client:
        yield client


def test_openai_names_the_task_in_the_model(client: openai.OpenAI, model: Upstream) -> None:
    raw = client.chat.completions.with_raw_response.create(model="notes@fake", messages=MESSAGES)
    assert raw.parse().choices[0].message.content == "sad" and raw.headers["X-Udr-Task"] == "notes"
    assert (model.requests[0].body["model"], len(model.requests[0].body["messages"])) == ("fake", TURNS)
    assert model.requests[0].headers["Authorization"] == "Bearer sk-1"


def test_openai_gives_options_in_the_extra_body_or_headers(client: openai.OpenAI, model: Upstream) -> None:
    options = {"udr": {"task": "notes", "k": 2}}
    client.chat.completions.create(model="fake", messages=MESSAGES, extra_body=options)
    client.chat.completions.create(model="fake", messages=MESSAGES, extra_headers={"X-Udr-Task": "notes"})
    assert [len(request.body["messages"]) for request in model.requests] == [5, TURNS]
    assert model.requests[0].body.keys() == {"model", "messages"}


def test_openai_streams(client: openai.OpenAI, model: Upstream) -> None:
    stream = client.chat.completions.create(model="notes@fake", messages=MESSAGES, stream=True)
    assert [event.choices[0].delta.content for event in stream] == ["s", "a", "d", None]


def test_openai_raises_the_upstream_s_errors_and_udr_s(client: openai.OpenAI, model: Upstream) -> None:
    model.behave = refuses(429, {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}, Retry_After="3")
    with pytest.raises(openai.RateLimitError, match="Slow down") as limited:
        client.chat.completions.create(model="notes@fake", messages=MESSAGES)
    assert limited.value.code == "rate_limit_exceeded" and limited.value.response.headers["Retry-After"] == "3"
    with pytest.raises(openai.UnprocessableEntityError, match="udr needs a task"):
        client.chat.completions.create(model="fake", messages=MESSAGES, extra_body={"udr": {}})


LITELLM = """
import litellm
settings = {"api_base": sys.argv[1], "api_key": "none", "max_retries": 0}
chat = {"model": "openai/notes@fake", "messages": messages, **settings}
answer = litellm.completion(**chat, extra_body={"udr": {"k": 2}})
parts = [part.choices[0].delta.content for part in litellm.completion(**chat, stream=True)]
vectors = [item["embedding"] for item in litellm.embedding(model="openai/fake-hash", input=texts, **settings).data]
try:
    litellm.embedding(model="openai/fake-hash", input=[[1, 2]], **settings)
except litellm.exceptions.BadRequestError as error:
    refusal = str(error)
print(json.dumps([[answer.choices[0].message.content, "".join(part or "" for part in parts)], vectors, refusal]))
"""
LANGCHAIN = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="notes@fake", base_url=sys.argv[1], api_key="none", extra_body={"udr": {"k": 2}})
parts = [part.content for part in model.stream([("user", messages[0]["content"])])]
print(json.dumps([model.invoke([("user", messages[0]["content"])]).content, "".join(parts)]))
"""


def printed(code: str, address: str) -> Any:
    """What code prints in a process of its own: importing these libraries leaves event loops open, or warns."""
    head = f"import json, sys; messages, texts = {MESSAGES!r}, {TEXTS!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", head + code, address]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.splitlines()
    return json.loads(lines[-1])


def assert_chats(model: Upstream) -> None:
    """Assert that the model was asked, and with two demonstrations where they were asked for."""
    assert {request.body["model"] for request in model.requests} == {"fake"}
    assert min(len(request.body["messages"]) for request in model.requests) == 5


@pytest.mark.skipif(find_spec("litellm") is None, reason="needs litellm, which dspy brings")
def test_litellm_gets_answers_streams_and_embeddings(address: str, model: Upstream) -> None:
    answers, vectors, refusal = printed(LITELLM, address)
    assert answers == ["sad", "sad"]
    assert_chats(model)
    np.testing.assert_array_equal(np.array(vectors, dtype=np.float32), HashEncoder().encode_queries(TEXTS))
    assert "check_embedding_ctx_length=False" in refusal


@pytest.mark.skipif(find_spec("langchain_openai") is None, reason="needs langchain_openai")
def test_langchain_gets_answers_and_streams(address: str, model: Upstream) -> None:
    assert printed(LANGCHAIN, address) == ["sad", "sad"]
    assert_chats(model)


def test_the_examples_of_the_page_run(address: str, model: Upstream) -> None:
    page, names = (ROOT / "docs" / "gateway.md").read_text("utf-8"), dict[str, Any]()
    for _, code in blocks(page, "python"):
        here = code.replace("http://127.0.0.1:8000/v1", address).replace("home_assistant", "notes")
        exec(compile(here, "gateway.md", "exec"), names)
    names["client"].close()
    assert len(model.requests) == 2
