"""Fixtures of trainings that take a second."""

from pathlib import Path

import pytest

from tests.training.trainer.small_trainings import Tasks
from udr.data import Pool
from udr_training.candidates import rank_candidates
from udr_training.config import TrainConfig
from udr_training.trainer import TaskExamples, split


@pytest.fixture(scope="session")
def examples(pools: dict[str, Pool]) -> Tasks:
    """Twelve queries of two tasks, four for validation, with scores that favour demonstrations of the same target."""

    def examples_of(pool: Pool) -> TaskExamples:
        rows = pool.rows[:12]
        ranked = []
        for row in rows:
            scores = {other.id: 0.1 * n + (row.target == other.target) for n, other in enumerate(rows) if other != row}
            ranked.append(rank_candidates(row.id, scores))
        return split(pool, ranked, TrainConfig(validation=0.34))

    return {name: examples_of(pools[name]) for name in ("reviews", "colours")}


@pytest.fixture(scope="session")
def config(encoder_folder: object) -> TrainConfig:
    return TrainConfig(model=str(encoder_folder), epochs=2, batch_size=4, list_length=4, learning_rate=1e-3)


@pytest.fixture
def command(tasks: Path, lm_folder: Path, encoder_folder: Path) -> list[object]:
    sizes = "--queries 10 --candidates 6 --iterations 1 --epochs 1 --batch-size 4 --set train.list_length=4"
    return ["train", tasks, "--lm", lm_folder, "--model", encoder_folder, *sizes.split(), "--test-rows", 0]
