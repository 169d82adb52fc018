"""An index that carries its encoder is served, asked and reloaded without torch and the libraries around it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_models import save_encoder
from udr import Retriever
from udr_index.build import BuildConfig, build

HEAVY = "torch transformers sentence_transformers scipy sklearn datasets peft pandas onnx onnxscript".split()
HEAVY += ["huggingface_hub"]

# Finds them no more, as where they are not installed.
BLOCK = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {heavy} else super().find_spec(name, path, target)

if {blocked}:
    sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""
END = "\nheavy = {name.partition('.')[0] for name in sys.modules} & set(%r)\nassert not heavy, heavy\n"

OPEN = """
from udr import PromptBuilder, Retriever, load_tokenizer
with Retriever.open("index") as retriever:
    retrieval = retriever.retrieve("questions", "Who owns the boat?", k=3, max_copy=1.0)
    builder = PromptBuilder(load_tokenizer(retriever.tokenizer), 500)
    prompt = builder.build(retriever.tasks["questions"], "Where is it?", retrieval)
    print(*(item.id for item in retrieval), prompt.tokens)
"""
COMMANDS = """
from udr.cli import main
assert main(["retrieve", "index", "--task", "questions", "Who owns the boat?"]) == 0
assert main(["prompt", "index", "--task", "questions", "--budget", "500", "Who owns the boat?"]) == 0
"""
SERVE = """
import os, signal, socket, threading, time, urllib.request
from udr import Client
from udr.cli import main
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]

def ask():
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            while not client.ready():
                time.sleep(0.05)
            before = client.retrieve("questions", "Who owns the boat?", k=3).index_version
            with open("index/CURRENT", "w") as file:
                file.write(open("other").read())
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/admin/reload", method="POST"))
            after = client.retrieve("questions", "Who owns the boat?", k=3, max_copy=1.0).index_version
            print(before, after, client.info()["engine"])
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask).start()
assert main(["serve", "index", "--port", str(port)]) == 0
"""


@pytest.fixture(scope="module")
def carried(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index that carries its encoder, and the name of another version in a file."""
    folder = tmp_path_factory.mktemp("light")
    model = str(save_encoder(folder / "encoder"))
    other = build(BuildConfig(tasks=collection, out=folder / "index", model=model, pool=9, device="cpu"))
    (folder / "other").write_text(f"{other.version}\n", "ascii")
    build(BuildConfig(tasks=collection, out=folder / "index", model=model, device="cpu"))
    return folder


def light(code: str, folder: Path, *, blocked: bool) -> str:
    """Run code in a new process in ``folder``; fail if it imported what is heavy; return what it printed."""
    code = BLOCK.format(heavy=HEAVY, blocked=blocked) + code + END % HEAVY
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "UDR_LOG_LEVEL": "error"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("blocked", [False, True], ids=["installed", "missing"])
@pytest.mark.parametrize("code", [OPEN, COMMANDS], ids=["retriever", "commands"])
def test_queries_and_prompts_import_nothing_heavy(carried: Path, code: str, blocked: bool) -> None:
    printed = light(code, carried, blocked=blocked)
    with Retriever.open(carried / "index") as retriever:
        retrieval = retriever.retrieve("questions", "Who owns the boat?", k=3, max_copy=1.0)
    assert retrieval[0].id in printed


def test_a_service_answers_and_reloads_without_anything_heavy(carried: Path) -> None:
    before = (carried / "index/CURRENT").read_text("ascii").strip()
    after = (carried / "other").read_text("ascii").strip()
    assert light(SERVE, carried, blocked=True).split() == [before, after, "onnx"]
    (carried / "index/CURRENT").write_text(f"{before}\n", "ascii")
