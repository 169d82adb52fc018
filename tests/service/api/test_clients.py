"""The API as the clients that people use send and read it; OpenAI's own library and LiteLLM have tests of theirs."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.service.conftest import BODY, Words
from tests.service.running import running
from udr.retrieval import Retriever
from udr_service import Settings, create_app


@pytest.fixture
def address(retriever: Retriever) -> Iterator[str]:
    settings = Settings(cors_origins=("https://page.example",))
    with running(create_app(retriever, settings, Words())) as address:
        yield address


def test_requests_reads_answers_and_problems(address: str) -> None:
    answer = requests.post(f"{address}/v1/retrieve", json={**BODY, "exclude": None}, timeout=20)
    assert answer.status_code == 200 and answer.json()["demonstrations"]
    problem = requests.post(f"{address}/v1/retrieve", data={"task": "notes"}, timeout=20)
    assert (problem.status_code, problem.headers["Content-Type"]) == (415, "application/problem+json")
    assert requests.head(f"{address}/v1/tasks", timeout=20).headers["Content-Length"] != "0"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_sends_what_a_shell_has(address: str) -> None:
    def curl(*arguments: str) -> str:
        return subprocess.run(["curl", "-s", *arguments], check=True, capture_output=True, text=True, timeout=20).stdout

    declared = ("-H", "Content-Type: application/json; charset=UTF-8")
    answer = json.loads(curl(*declared, "-d", json.dumps(BODY), f"{address}/v1/retrieve"))
    assert len(answer["demonstrations"]) == 1
    # Without a content type, curl declares a form.
    assert json.loads(curl("-d", json.dumps(BODY), f"{address}/v1/retrieve"))["status"] == 415
    assert "HTTP/1.1 200" in curl("-I", f"{address}/v1/models")
    preflight = curl(
        *("-i", "-X", "OPTIONS", "-H", "Origin: https://page.example", "-H", "Access-Control-Request-Method: POST"),
        f"{address}/v1/retrieve",
    )
    assert "HTTP/1.1 200" in preflight and "access-control-allow-origin: https://page.example" in preflight.lower()
