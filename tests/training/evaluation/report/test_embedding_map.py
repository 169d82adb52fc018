"""The map: principal components that can be checked by hand, of the run that was compared."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.copy_lm import CopyLM
from tests.training.evaluation.report.invented import invented
from udr.data import open_collection
from udr_training import RunFolder
from udr_training.config import RunConfig, TrainConfig
from udr_training.evaluation import EvaluationConfig, evaluate
from udr_training.evaluation.report import label_map, project, same_label


def test_points_lie_along_the_directions_of_largest_variance() -> None:
    # Four corners of a rectangle of 6 by 2, moved away from the origin, in a plane of three dimensions.
    corners = np.array([[3.0, 1.0, 0.0], [3.0, -1.0, 0.0], [-3.0, 1.0, 0.0], [-3.0, -1.0, 0.0]])
    points, shares = project(corners + np.array([5, 7, 9]))
    assert points == pytest.approx(np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]]))
    assert shares == pytest.approx((0.9, 0.1))


def test_rows_that_are_all_alike_lie_on_one_point() -> None:
    points, shares = project(np.ones((3, 5)))
    assert points.tolist() == [[0, 0]] * 3 and shares == (0, 0)


def test_a_single_dimension_has_no_second_direction() -> None:
    points, shares = project(np.array([[1.0], [3.0]]))
    assert points.tolist() == [[-1, 0], [1, 0]] and shares == (1, 0)


def test_the_nearest_other_row_decides_never_the_row_itself() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    assert same_label(["a", "a", "b", "b"], vectors) == 1
    assert same_label(["a", "b", "c", "c"], vectors) == 0.5


def make_run(path: Path, start: str, trained: Path) -> str:
    config = RunConfig(train=TrainConfig(model=start))
    RunFolder(path).claim(config, {}, {})
    shutil.copytree(trained, path / "model")
    return str(path)


def test_the_encoder_that_a_run_started_from_is_drawn_beside_the_run(
    tasks: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "my-run", str(encoder_folder), encoder_folder)
    collection = open_collection(tasks)
    config = EvaluationConfig(retrievers=("bm25", run), shots=(1,), pool=20)
    drawn = label_map(evaluate(collection, CopyLM(), config), collection)
    assert (drawn.task, len(drawn.labels), drawn.problem) == ("reviews", 20, "")
    assert [panel.title for panel in drawn.panels] == [f"before: {encoder_folder}", "after: my-run"]
    # It is the same encoder twice.
    before, after = drawn.panels
    assert before.points == pytest.approx(after.points) and before.neighbours == after.neighbours
    assert before.points.shape == (20, 2)


def test_without_a_map_it_says_why(tasks: Path, encoder_folder: Path, tmp_path: Path) -> None:
    collection = open_collection(tasks)
    assert label_map(invented(), collection).problem == "no run was compared, so there is no before and after to draw"
    run = make_run(tmp_path / "my-run", "./gone", encoder_folder)
    config = EvaluationConfig(retrievers=(run,), shots=(1,), limit=2)
    evaluation = evaluate(collection, CopyLM(), config)
    assert "model './gone': no such file or folder" in label_map(evaluation, collection).problem
    no_labels = open_collection(tasks, ["reverse"])
    assert label_map(evaluation, no_labels).problem.startswith("no classification task was evaluated")
