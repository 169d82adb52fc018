"""The MCP server, asked by the official client: in memory, over stdio and over HTTP."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs mcp: pip install 'udr-icl[mcp]'")

import anyio
from mcp import Client, StdioServerParameters, stdio_client

from tests.service.conftest import Words
from tests.service.running import running
from tests.tiny_models import save_encoder
from udr.client import AsyncClient
from udr.integrations import mcp_server
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app

NOTE = "a dull grey day"


async def call(client: Any, name: str, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def check(client: Any, text: str = NOTE) -> tuple[Any, Any]:
    """Use each tool; return what retrieve and prompt answer."""
    assert {tool.name for tool in (await client.list_tools()).tools} == {"retrieve", "prompt", "tasks"}
    tasks = await call(client, "tasks")
    assert tasks.keys() == {"notes", "questions", "reviews"} and tasks["notes"]["fields"] == ["text"]
    found = await call(client, "retrieve", task="notes", input={"text": text}, k=2)
    prompt = await call(client, "prompt", task="notes", input=text, k=2, budget=200, reserve=5)
    assert prompt["prompt"].endswith(f"Note: {text}\nMood:") and prompt["tokens"] <= 195
    assert sorted(each["rank"] for each in prompt["demonstrations"]) == [1, 2]
    refused = await client.call_tool("retrieve", {"task": "other", "input": text})
    assert refused.is_error and "unknown task 'other'" in refused.content[0].text
    return found, prompt


def test_a_service_s_answers_are_passed_on(retriever: Retriever) -> None:
    async def ask(address: str) -> Any:
        async with AsyncClient(address) as source, Client(mcp_server(source)) as client:
            return await check(client)

    with running(create_app(retriever, Settings(), Words())) as address:
        found, _ = anyio.run(ask, address)
    assert found["demonstrations"] == [each.to_json() for each in retriever.retrieve("notes", NOTE, 2)]


def test_an_agent_may_ask_for_more_than_there_are(retriever: Retriever) -> None:
    """An index and a service answer alike."""

    async def ask(source: Retriever | AsyncClient) -> Any:
        async with Client(mcp_server(source)) as client:
            return await call(client, "retrieve", task="notes", input=NOTE, k=50)

    async def ask_both(address: str) -> tuple[Any, Any, Any]:
        async with AsyncClient(address) as source, Client(mcp_server(source)) as client:
            prompt = await call(client, "prompt", task="notes", input=NOTE, k=50, budget=1000)
            return await ask(retriever), await ask(source), prompt

    with running(create_app(retriever, Settings(), Words())) as address:
        here, there, prompt = anyio.run(ask_both, address)
    assert here == there and len(here["demonstrations"]) == retriever.sizes["notes"] == 20
    assert len(prompt["demonstrations"]) == 20


@pytest.fixture(scope="module")
def tiny(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by a tiny random BERT, which it carries."""
    root = tmp_path_factory.mktemp("tiny")
    build(BuildConfig(tasks=collection, out=root / "index", model=str(save_encoder(root / "encoder"))))
    return root / "index"


COMMAND = [
    sys.executable,
    "-c",
    "import sys; from udr.integrations.mcp_command import mcp; import typer; typer.run(mcp)",
]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_an_index_is_served_over_stdio(tiny: Path) -> None:
    async def ask() -> None:
        parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], str(tiny)], env=environment())
        async with Client(stdio_client(parameters)) as client:
            await check(client)

    anyio.run(ask)


@pytest.fixture
def over_http(tiny: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*COMMAND, str(tiny), "--http", "--port", str(port)], env=environment())
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait()


def test_an_index_is_served_over_http(over_http: str) -> None:
    async def ask() -> None:
        async with Client(over_http) as client:
            await check(client)

    anyio.run(ask)
