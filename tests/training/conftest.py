"""Fixtures of the training tests."""

from pathlib import Path

import pytest
import torch

from tests.tiny_models import save_encoder, save_lm
from udr.data import Pool, open_collection
from udr_training.candidates import rank_candidates
from udr_training.config import TrainConfig
from udr_training.feedback.local import CausalLM
from udr_training.trainer import TaskExamples, split

# Tiny models gain nothing from a second thread, and lose a lot where the cores are shared.
torch.set_num_threads(1)

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


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of three small tasks, one of each kind, 24 training and 4 test rows each."""
    import json

    root = tmp_path_factory.mktemp("tasks")
    things = "grass sky blood snow coal lemon leaf sea rose milk soot sun".split()
    for family, name, definition in (
        ("opinion", "reviews", REVIEWS),
        ("choice", "colours", COLOURS),
        ("words", "reverse", REVERSE),
    ):
        folder = root / family / name
        folder.mkdir(parents=True)
        (folder / "task.toml").write_text(definition, "utf-8")
        for part, count in (("train", 24), ("test", 4)):
            rows = []
            for number in range(count):
                thing, label = things[number % 12], ("good", "bad")[number % 2]
                row: dict[str, object] = {"id": f"{name}-{part}-{number:02}"}
                if name == "reviews":
                    row |= {"input": {"text": f"{part} {number} the {thing} is {label} indeed"}, "target": label}
                elif name == "colours":
                    choices = ["green", "blue", "red"]
                    row |= {"input": {"thing": f"{thing} {part}{number}"}, "target": choices[number % 3]}
                    row["choices"] = choices
                else:
                    row |= {"input": {"words": f"{thing} {part}{number}"}, "target": f"{part}{number} {thing}"}
                rows.append(json.dumps(row))
            (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return root


@pytest.fixture(scope="session")
def pools(tasks: Path) -> dict[str, Pool]:
    return {name: folder.pool() for name, folder in open_collection(tasks).tasks.items()}


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("models") / "lm")


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def lm(lm_folder: Path) -> CausalLM:
    return CausalLM.load(str(lm_folder))


@pytest.fixture
def brought(pools: dict[str, Pool]) -> dict[str, TaskExamples]:
    """Each task's queries, with scores that favour demonstrations of the same target."""

    def examples(pool: Pool) -> TaskExamples:
        rows = pool.rows[:12]
        scores = [
            {other.id: 0.1 * number + (row.target == other.target) for number, other in enumerate(rows) if other != row}
            for row in rows
        ]
        return split(
            pool,
            [rank_candidates(row.id, own) for row, own in zip(rows, scores, strict=True)],
            TrainConfig(validation=0.34),
        )

    return {name: examples(pools[name]) for name in ("reviews", "colours")}


@pytest.fixture
def config(encoder_folder: Path) -> TrainConfig:
    return TrainConfig(model=str(encoder_folder), epochs=2, batch_size=4, list_length=4, learning_rate=1e-3)
