"""An index that carries its encoder is served, asked and reloaded without torch and the libraries around it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from tests.test_layers import PACKAGES, REPOSITORY
from tests.tiny_models import save_encoder
from udr import Retriever
from udr.files import sha256
from udr.store import MANIFEST, FileStamp, open_version, vectors_path
from udr_index.build import BuildConfig, build

HEAVY = "torch transformers sentence_transformers scipy sklearn datasets peft pandas onnx onnxscript".split()
HEAVY += ["huggingface_hub"]

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
# As the wheel's metadata has them.
REQUIRES = PROJECT["dependencies"] + [
    f"{item} ; extra == '{extra}'" for extra, items in PROJECT["optional-dependencies"].items() for item in items
]

END = f"""
heavy = {{name.partition('.')[0] for name in sys.modules}} & set({HEAVY})
assert not heavy, heavy
"""

OPEN = """
import sys
from udr import PromptBuilder, Retriever, load_tokenizer
with Retriever.open("index") as retriever:
    retrieval = retriever.retrieve("questions", "Who owns the boat?", k=3, max_copy=1.0)
    builder = PromptBuilder(load_tokenizer(retriever.tokenizer), 500)
    prompt = builder.build(retriever.tasks["questions"], "Where is it?", retrieval)
    print(*(item.id for item in retrieval), prompt.tokens)
"""
COMMANDS = """
import sys
from udr.cli import main
assert main(["retrieve", "index", "--task", "questions", "Who owns the boat?"]) == 0
assert main(["prompt", "index", "--task", "questions", "--budget", "500", "Who owns the boat?"]) == 0
"""
MEASURE = """
import sys
from udr.cli import main
assert main(["index", "verify", "index"]) == 0
assert main(["index", "bench", "index", "--k", "3", "--queries", "20"]) == 0
assert main(["index", "verify", "altered"]) == 3
"""
SERVE = """
import gc, os, signal, socket, sys, threading, time, urllib.request
from udr.cli import main
# It must be told how many threads it has before it is imported.
assert "numpy" not in sys.modules and "OPENBLAS_NUM_THREADS" not in os.environ
from udr import Client
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
assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
assert gc.isenabled() and gc.get_freeze_count() > 10_000
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


def needed(extras: str) -> dict[str, Distribution]:
    """The distributions that ``udr-icl`` with these extras requires, itself included, by name."""
    found, waiting, seen = dict[str, Distribution](), [Requirement(f"udr-icl[{extras}]")], set[str]()
    while waiting:
        asked = waiting.pop()
        if str(asked) in seen:
            continue
        seen.add(str(asked))
        name = re.sub(r"[-_.]+", "-", asked.name).lower()
        found[name] = distribution(name)
        for line in REQUIRES if name == "udr-icl" else found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (asked.extras or {""})
            ):
                waiting.append(requirement)
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with those alone that the extras ``service`` and ``cpu`` require; links to ours."""
    folder = tmp_path_factory.mktemp("packages")
    for name, found in needed("service,cpu").items():
        for entry in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(found.locate_file(entry)))
            # Our own sources come from this repository.
            if source.exists() and (name != "udr-icl" or entry.endswith(".dist-info")):
                (folder / entry).symlink_to(source)
    return folder


@pytest.mark.parametrize("name", ["torch", "transformers", "scipy", "datasets", "onnx"])
def test_the_service_requires_nothing_heavy(name: str) -> None:
    assert name not in needed("service,cpu") and name in needed("training,cpu")


def light(code: str, folder: Path, environment: Path | None = None) -> str:
    """Run code in a new process in ``folder``; fail if it imported what is heavy; return what it printed.

    With an ``environment``, that and our sources are all that can be imported.
    """
    ours = [str(REPOSITORY / root) for root in PACKAGES.values()]
    paths, options = ([*ours, str(environment)], ["-S"]) if environment else ([*ours, *filter(None, sys.path)], [])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "UDR_LOG_LEVEL": "error"}
    # The service sets it where the caller has not; SERVE watches it do so.
    variables.pop("OPENBLAS_NUM_THREADS", None)
    command = [sys.executable, *options, "-c", code + END]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("code", [OPEN, COMMANDS], ids=["retriever", "commands"])
def test_queries_and_prompts_import_nothing_heavy_and_need_nothing_else(
    carried: Path, environment: Path, code: str
) -> None:
    with Retriever.open(carried / "index") as retriever:
        retrieval = retriever.retrieve("questions", "Who owns the boat?", k=3, max_copy=1.0)
    for packages in (None, environment):
        assert retrieval[0].id in light(code, carried, packages)


def test_an_index_is_verified_and_measured_where_nothing_else_is_installed(carried: Path, environment: Path) -> None:
    altered = open_version(shutil.copytree(carried / "index", carried / "altered"))
    part, vectors = vectors_path("questions"), altered.vectors("questions")[::-1].copy()
    np.save(altered.path / part, vectors)
    written = altered.path / part
    stamp = FileStamp(size=written.stat().st_size, sha256=sha256(written))
    manifest = replace(altered.manifest, files={**altered.manifest.files, part: stamp})
    (altered.path / MANIFEST).write_bytes(manifest.to_bytes())
    told = light(MEASURE, carried, environment).splitlines()
    assert told[0] == "index: intact" and [line.split()[3] for line in told[1:-1]] == ["1.000"] * (len(told) - 2)
    assert told[-1].startswith(f"{part}: 16 of 16 vectors differ from the encoder's output")


def test_a_service_answers_and_reloads_where_nothing_else_is_installed(carried: Path, environment: Path) -> None:
    current = carried / "index/CURRENT"
    before, after = current.read_text("ascii"), (carried / "other").read_text("ascii")
    for packages in (None, environment):
        assert light(SERVE, carried, packages).split() == [before.strip(), after.strip(), "onnx"]
        current.write_text(before, "ascii")
