"""The gateway as the libraries that people use call it: OpenAI's own, LiteLLM and LangChain's chat models."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import openai
import pytest

from tests.documentation.pages import ROOT, blocks
from tests.service.conftest import Words
from tests.service.running import running
from tests.upstreams import Upstream, refuses, upstream
from udr.retrieval import Retriever
from udr_service import Settings, create_app

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


# Each in a process of its own: importing them leaves event loops open, or warns.
LITELLM = """
import litellm
settings = {"model": "openai/notes@fake", "api_base": sys.argv[1], "api_key": "none", "messages": messages}
answer = litellm.completion(**settings, max_retries=0, extra_body={"udr": {"k": 2}})
parts = [part.choices[0].delta.content for part in litellm.completion(**settings, stream=True)]
print(json.dumps([answer.choices[0].message.content, "".join(part or "" for part in parts)]))
"""
LANGCHAIN = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="notes@fake", base_url=sys.argv[1], api_key="none", extra_body={"udr": {"k": 2}})
parts = [part.content for part in model.stream([("user", messages[0]["content"])])]
print(json.dumps([model.invoke([("user", messages[0]["content"])]).content, "".join(parts)]))
"""


@pytest.mark.parametrize(
    ("library", "code"),
    [("litellm", LITELLM), ("langchain_openai", LANGCHAIN)],
)
def test_other_libraries_get_answers_and_streams(library: str, code: str, address: str, model: Upstream) -> None:
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    head = f"import json, sys; messages = {MESSAGES!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", head + code, address]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert json.loads(printed.splitlines()[-1]) == ["sad", "sad"]
    assert {request.body["model"] for request in model.requests} == {"fake"}
    assert min(len(request.body["messages"]) for request in model.requests) == 5


def test_the_examples_of_the_page_run(address: str, model: Upstream) -> None:
    page, names = (ROOT / "docs" / "gateway.md").read_text("utf-8"), dict[str, Any]()
    for _, code in blocks(page, "python"):
        here = code.replace("http://127.0.0.1:8000/v1", address).replace("home_assistant", "notes")
        exec(compile(here, "gateway.md", "exec"), names)
    names["client"].close()
    assert len(model.requests) == 2
