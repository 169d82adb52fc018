"""The map: principal components computed by hand, and the encoders of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.copy_lm import CopyLM
from tests.training.evaluation.report.invented import invented
from udr.data import open_collection
from udr_training import RunFolder
from udr_training.config import RunConfig, TrainConfig
from udr_training.evaluation import Evaluation, EvaluationConfig, evaluate
from udr_training.evaluation.report import label_map, project, same_label

# The corners of a rectangle of 6 by 2, in a plane of three dimensions.
CORNERS = [[3.0, 1.0, 0.0], [3.0, -1.0, 0.0], [-3.0, 1.0, 0.0], [-3.0, -1.0, 0.0]]


@pytest.mark.parametrize(
    ("vectors", "points", "shares"),
    [
        (np.array(CORNERS) + np.array([5, 7, 9]), [corner[:2] for corner in CORNERS], (0.9, 0.1)),
        (np.ones((3, 5)), [[0, 0]] * 3, (0, 0)),
        (np.array([[1.0], [3.0]]), [[-1, 0], [1, 0]], (1, 0)),
    ],
    ids=["rectangle", "equal rows", "one dimension"],
)
def test_points_are_along_the_directions_of_largest_variance(
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float64]], points: list[list[float]], shares: tuple[float, float]
) -> None:
    projected, found = project(vectors)
    assert projected == pytest.approx(np.array(points)) and found == pytest.approx(shares)


def test_same_label_compares_with_the_nearest_other_row() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    assert (same_label(["a", "a", "b", "b"], vectors), same_label(["a", "b", "c", "c"], vectors)) == (1, 0.5)


def run_and_evaluation(tasks: Path, folder: Path, start: str, trained: Path) -> Evaluation:
    RunFolder(folder).claim(RunConfig(train=TrainConfig(model=start)), {}, {})
    shutil.copytree(trained, folder / "model")
    config = EvaluationConfig(retrievers=("random", str(folder)), shots=(1,), limit=1, pool=20)
    return evaluate(open_collection(tasks, ["reviews"]), CopyLM(), config)


def test_the_map_shows_a_run_and_the_encoder_it_started_from(tasks: Path, encoder_folder: Path, tmp_path: Path) -> None:
    evaluation = run_and_evaluation(tasks, tmp_path / "my-run", str(encoder_folder), encoder_folder)
    shown = label_map(evaluation, open_collection(tasks))
    assert (shown.task, len(shown.labels), shown.problem) == ("reviews", 20, "")
    assert [panel.title for panel in shown.panels] == [f"before: {encoder_folder}", "after: my-run"]
    # It is the same encoder twice.
    before, after = shown.panels
    assert before.points == pytest.approx(after.points) and before.neighbours == after.neighbours
    assert before.points.shape == (20, 2)


def test_a_missing_map_has_a_reason(tasks: Path, encoder_folder: Path, tmp_path: Path) -> None:
    collection = open_collection(tasks)
    assert label_map(invented(), collection).problem == "no run was compared, so there is no before and after to show"
    evaluation = run_and_evaluation(tasks, tmp_path / "my-run", "./gone", encoder_folder)
    assert "model './gone': no such file or folder" in label_map(evaluation, collection).problem
    generation = open_collection(tasks, ["reverse"])
    assert label_map(evaluation, generation).problem.startswith("no classification task was evaluated")
