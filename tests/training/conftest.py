"""Fixtures of the training tests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.tiny_models import save_encoder, save_lm
from udr.cli import main
from udr.data import Pool, open_collection
from udr_training import Run
from udr_training.config import CandidateConfig, FeedbackConfig, RunConfig, TrainConfig
from udr_training.feedback.local import CausalLM

# Tiny models gain nothing from a second thread, and lose a lot if the cores are shared.
torch.set_num_threads(1)

Udr = Callable[..., tuple[int, str, str]]

REVIEWS = """
name = "reviews"
family = "opinion"
kind = "classification"
instruction = "Say whether the review is good or bad."
input = "Review: {text}"
output = "Verdict: {target}"
metric = "accuracy"
labels = ["good", "bad"]
"""
COLOURS = """
name = "colours"
family = "choice"
kind = "multiple_choice"
instruction = "Choose the colour."
input = "Thing: {thing}"
output = "Colour: {target}"
metric = "accuracy"
"""
REVERSE = """
name = "reverse"
family = "words"
kind = "generation"
instruction = "Say the words in reverse."
input = "Words: {words}"
output = "Reversed: {target}"
metric = "exact_match"
"""


def _row(name: str, part: str, number: int) -> dict[str, object]:
    thing = "grass sky blood snow coal lemon leaf sea rose milk soot sun".split()[number % 12]
    row: dict[str, object] = {"id": f"{name}-{part}-{number:02}"}
    if name == "reviews":
        label = ("good", "bad")[number % 2]
        return row | {"input": {"text": f"{part} {number} the {thing} is {label} indeed"}, "target": label}
    if name == "colours":
        choices = ["green", "blue", "red"]
        thing = f"{thing} {part}{number}"
        return row | {"input": {"thing": thing}, "target": choices[number % 3], "choices": choices}
    return row | {"input": {"words": f"{thing} {part}{number}"}, "target": f"{part}{number} {thing}"}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of three small tasks, one of each kind, 24 training and 4 test rows each."""
    root = tmp_path_factory.mktemp("tasks")
    for folder, definition in (("opinion/reviews", REVIEWS), ("choice/colours", COLOURS), ("words/reverse", REVERSE)):
        (root / folder).mkdir(parents=True)
        (root / folder / "task.toml").write_text(definition, "utf-8")
        for part, count in (("train", 24), ("test", 4)):
            rows = [json.dumps(_row(Path(folder).name, part, number)) for number in range(count)]
            (root / folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return root


@pytest.fixture(scope="session")
def pools(tasks: Path) -> dict[str, Pool]:
    return {name: folder.pool() for name, folder in open_collection(tasks).tasks.items()}


@pytest.fixture(scope="session")
def reviews(pools: dict[str, Pool]) -> Pool:
    return pools["reviews"]


def changed_copy(tasks: Path, folder: Path, old: str, new: str, part: str = "train") -> Path:
    """Copy the tasks into a folder, with a change in the rows of the reviews."""
    shutil.copytree(tasks, folder, dirs_exist_ok=True)
    path = folder / "opinion" / "reviews" / f"{part}.jsonl"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    return folder


def assert_refused(result: tuple[int, str, str], status: int, message: str) -> None:
    """Assert that a command printed one line of error, and nothing on stdout."""
    returned, out, err = result
    last = err.strip().splitlines()[-1]
    assert last.startswith("udr: error: ") and message in last and "Traceback" not in err
    assert (returned, out) == (status, "")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of a test is asked with a key of this machine's user."""
    monkeypatch.delenv("UDR_LM_KEY", raising=False)
    monkeypatch.delenv("UDR_WORKER_LM_KEY", raising=False)


@pytest.fixture
def udr(capsys: pytest.CaptureFixture[str]) -> Udr:
    """Runs a command of ``udr`` in this process; returns its status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(list(map(str, arguments))), *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("models") / "lm")


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture
def model(encoder_folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(encoder_folder), device="cpu").eval()


@pytest.fixture(scope="session")
def lm(lm_folder: Path) -> CausalLM:
    return CausalLM.load(str(lm_folder))


@pytest.fixture(scope="session")
def run_config(lm_folder: Path, encoder_folder: Path) -> RunConfig:
    sizes = {"iterations": 2, "epochs": 1, "batch_size": 4, "list_length": 4}
    train = TrainConfig(model=str(encoder_folder), validation=0.2, learning_rate=1e-3, **sizes)  # type: ignore[arg-type]
    return RunConfig(
        tasks=("colours", "reverse", "reviews"),
        candidates=CandidateConfig(queries=10, num_candidates=6, random_share=0.5),
        feedback=FeedbackConfig(lm=str(lm_folder), context=1),
        train=train,
    )


@pytest.fixture(scope="session")
def trained_run(tasks: Path, run_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of two iterations; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    Run(folder, open_collection(tasks), run_config).finish()
    return folder


class Machine:
    """Makes this process one of another machine, which has a cache of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._monkeypatch = root, monkeypatch

    def __call__(self, name: str) -> None:
        self._monkeypatch.setenv("UDR_CACHE", str(self._root / name))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path, monkeypatch)
    machine("first")
    return machine
