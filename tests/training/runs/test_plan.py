"""``udr train --dry-run``: its counts match what the run does, and nothing is written."""

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.training.conftest import Udr
from udr.data import formatting, open_collection
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackStore
from udr_training.runs import plan_run


@pytest.fixture
def arguments(tasks: Path, trained_run: Path) -> list[object]:
    return ["train", tasks, "--dry-run", "--config", trained_run / "config.toml", "--out"]


def test_counts_match_what_the_run_does(udr: Udr, arguments: list[object], trained_run: Path, tmp_path: Path) -> None:
    def plan(run: Path) -> dict[str, Any]:
        status, out, _ = udr(*arguments, run, "--json")
        assert status == 0
        return dict(json.loads(out))

    before = plan(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert [(task["pairs"], task["stored"], task["later_pairs"]) for task in before["tasks"]] == [(60, 0, 30)] * 3
    assert all(task["pairs_per_second"] > 0 for task in before["tasks"])
    names = ("seconds_per_step", "feedback_seconds", "training_seconds", "disk_bytes")
    assert min(before[name] for name in names) > 0
    evaluation = before["evaluation"]
    assert evaluation["rows"].keys() == {"colours", "reverse", "reviews"} and evaluation["retrievers"] == 4
    assert evaluation["seconds"] > 0

    metrics = (trained_run / "iteration-0" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert (before["iterations"], before["steps"]) == (2, json.loads(metrics[-1])["step"])
    assert 180 < json.loads(udr("feedback", "stats", trained_run, "--json")[1])["pairs"] <= 180 + 90
    assert [task["stored"] for task in plan(trained_run)["tasks"]] == [60] * 3
    status, _, err = udr(*arguments, trained_run, "--seed", 3)
    assert status == 2 and "another configuration (seed = 0 here, seed = 3 requested)" in err


def test_plan_is_printed_as_lines_and_changes_no_file_of_scores(
    udr: Udr, arguments: list[object], lm_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty, other = tmp_path / "empty.sqlite", tmp_path / "other.sqlite"
    empty.touch()
    FeedbackStore(other, "another lm", "float32", "wording").close()
    before = other.read_bytes()
    for path in (empty, other):
        status, out, _ = udr(*arguments, tmp_path / "run", "--feedback", path, "--processes", 2)
        assert status == 0
    # Once in each call, for the pairs and for the evaluation.
    assert caplog.text.count(f"loading {lm_folder}...") == 2
    assert empty.read_bytes() == b"" and other.read_bytes() == before
    lines = out.splitlines()
    assert lines[0].startswith("colours: 10 queries, 6 candidates each from 24 rows; 60 pairs (0 already scored), then")
    *stages, few = lines[3:]
    assert [line.split(":")[0] for line in stages] == ["feedback", "training", "evaluation", "in all", "disk"]
    assert re.match(r"training: 2 x \d+ steps on 2 processes, \d+\.\d\d s each, ", lines[4])
    assert few.startswith("12 test rows tell only gains of about 25 points or more from chance; ")
    assert few.endswith(
        "takes about 300; that takes more rows than there are: add some to colours and reverse and reviews"
    )
    assert lines[-3].startswith("in all: 1 min at most, the evaluation included, plus mining, validation and enco")
    assert lines[-4] == (
        "evaluation: 48 answers, to the test rows of each task (colours 4, reverse 4, reviews 4) with each of 4 "
        "retrievers, about 1 min, plus the encoding of the pools"
    )


def test_estimates_come_early_and_are_refined(tasks: Path, run_config: RunConfig, tmp_path: Path) -> None:
    seen: list[str] = []
    collection = open_collection(tasks, run_config.tasks)
    plan = plan_run(tmp_path / "run", collection, run_config, on_estimate=seen.append)
    feedback, training = ([text for text in seen if text.startswith(kind)] for kind in ("feedback", "training"))
    # Of each task 24 pairs are proposed, of which the first warms up.
    assert [text.partition(", by ")[2] for text in feedback] == [
        f"{count} pairs of {name}" for name in run_config.tasks for count in (4, 8, 11)
    ]
    assert [text.partition(", by ")[2] for text in training] == ["4 of the 4 queries of a step"]
    assert plan.seconds_per_step > 0 and all(task.pairs_per_second > 0 for task in plan.tasks)


def test_a_step_ends_when_the_gpu_has_done_its_work(
    tasks: Path, run_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tasks, run_config.tasks)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    # A GPU that works for a second after a step's calls have returned.
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: time.sleep(1))
    assert plan_run(tmp_path / "run", collection, run_config).seconds_per_step > 1


def test_a_step_is_that_of_the_longest_task_and_updates_the_weights(
    tasks: Path, run_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = open_collection(tasks, run_config.tasks)
    shown, preprocess, step = set[str](), SentenceTransformer.preprocess, torch.optim.AdamW.step

    def counted(self: SentenceTransformer, texts: list[str], *more: object, **options: object) -> Any:
        shown.update(texts)
        return preprocess(self, texts, *more, **options)  # type: ignore[arg-type]

    def slow(self: torch.optim.AdamW, *more: Any) -> Any:
        time.sleep(1)
        return step(self, *more)

    monkeypatch.setattr(SentenceTransformer, "preprocess", counted)
    monkeypatch.setattr(torch.optim.AdamW, "step", slow)
    assert plan_run(tmp_path / "run", collection, run_config).seconds_per_step > 1
    texts = {
        name: {formatting.encoder_demonstration(folder.task, row) for row in folder.pool().rows}
        for name, folder in collection.tasks.items()
    }
    lengths = {name: sum(map(len, own)) / len(own) for name, own in texts.items()}
    assert [name for name in texts if texts[name] & shown] == [max(lengths, key=lambda name: lengths[name])]


def test_many_labels_take_more_room(tasks: Path, run_config: RunConfig, tmp_path: Path) -> None:
    config = replace(run_config, tasks=("reviews",))
    before = plan_run(tmp_path / "run", open_collection(tasks, config.tasks), config)
    more = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    (file,) = more.glob("*/reviews/task.toml")
    labels = ", ".join(f'"label {number}"' for number in range(75))
    file.write_text(file.read_text("utf-8").replace("labels = [", f"labels = [{labels}, "), "utf-8")
    after = plan_run(tmp_path / "run", open_collection(more, config.tasks), config)
    # Ten queries with six candidates and at most three more.
    sizes = [FeedbackStore.most_bytes(90, 10, options) for options in (2, 77)]
    assert (
        after.disk_bytes - before.disk_bytes == pytest.approx(sizes[1] - sizes[0], abs=1) and sizes[1] > 10 * sizes[0]
    )


def test_rows_to_extrapolate_are_told_with_what_labels_explain(
    udr: Udr, arguments: list[object], trained_run: Path, tmp_path: Path
) -> None:
    scores = trained_run / "feedback.sqlite"
    request = [*arguments, tmp_path / "run", "--extrapolate", "labels", "--feedback", scores]
    # Five queries are held out, in place of two, which do not tell what labels explain.
    request += ["--set", "train.validation=0.5"]
    tasks = {task["task"]: task for task in json.loads(udr(*request, "--json")[1])["tasks"]}
    assert {name: task["extrapolated"] for name, task in tasks.items()} == {"colours": 0, "reverse": 0, "reviews": 3}
    assert 0 <= tasks["reviews"]["agreement"] <= 1 and tasks["colours"]["agreement"] is None
    (line,) = [line for line in udr(*request)[1].splitlines() if "extrapolated" in line]
    assert line.startswith("reviews: at most 3 more rows are extrapolated from labels") and line.endswith("%")


def test_cost_of_a_reward_model_is_told(udr: Udr, arguments: list[object], tmp_path: Path) -> None:
    request = [*arguments, tmp_path / "run", "--extrapolate", "reward", "--set", "reward.epochs=2"]
    plan = json.loads(udr(*request, "--json")[1])
    assert {task["task"]: task["extrapolated"] for task in plan["tasks"]} == dict.fromkeys(
        ["colours", "reverse", "reviews"], 4
    )
    reward = plan["reward"]
    # Eight queries for training in batches of four, twice, in three tasks; 20 candidates for each of four rows, and
    # those of two held-out queries: six of the first iteration and three of the second.
    assert (reward["steps"], reward["pairs"]) == (12, 3 * (20 * 4 + 2 * (6 + 3)))
    assert reward["seconds_per_step"] > 0 and reward["pairs_per_second"] > 0
    lines = udr(*request)[1].splitlines()
    assert "colours: 4 more rows are extrapolated by the reward model" in lines
    (line,) = [line for line in lines if line.startswith("reward model: 12 steps, ")]
    assert line.endswith("orders at least 60% of held-out scores right, and 5% more than the encoder")


def test_new_queries_of_later_iterations_are_told_with_their_allocation(
    udr: Udr, arguments: list[object], trained_run: Path, tmp_path: Path
) -> None:
    def plan(*more: object) -> list[tuple[int, int]]:
        tasks = json.loads(udr(*arguments, tmp_path / "run", *more, "--json")[1])["tasks"]
        return [(task["later_queries"], task["later_pairs"]) for task in tasks]

    assert plan() == [(0, 30)] * 3
    assert plan("--later", "new") == plan("--later", "allocated") == [(5, 30)] * 3
    scored = ("--later", "allocated", "--feedback", trained_run / "feedback.sqlite", "--set", "train.validation=0.5")
    allocated = plan(*scored)
    assert sum(queries for queries, _ in allocated) == 15
    assert all(pairs == 6 * queries for queries, pairs in allocated)
    (line,) = [line for line in udr(*arguments, tmp_path / "run", *scored)[1].splitlines() if "new queries:" in line]
    assert line.startswith(
        "new queries: 15 in all, at most 90 pairs, allocated by what labels explain of the order: reviews "
    )


def test_queries_that_a_small_pool_lacks_are_planned_for_the_others(
    tasks: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    small = Path(shutil.copytree(tasks, tmp_path / "tasks"))
    (rows,) = small.glob("*/colours/train.jsonl")
    rows.write_text("".join(rows.read_text("utf-8").splitlines(keepends=True)[:12]), "utf-8")

    def later(kind: Literal["new", "allocated"]) -> dict[str, tuple[int, int]]:
        config = replace(run_config, candidates=replace(run_config.candidates, later=kind))
        plan = plan_run(tmp_path / "run", open_collection(small, config.tasks), config)
        return {task.task: (task.later_queries, task.later_pairs) for task in plan.tasks}

    # A pool of twelve rows has eleven candidates for each of its rows.
    config = replace(run_config, candidates=replace(run_config.candidates, num_candidates=20))
    plan = plan_run(tmp_path / "run", open_collection(small, config.tasks), config)
    # The second iteration mines ten new ones, as far as the pool goes.
    assert {task.task: (task.candidates, task.pairs, task.later_pairs) for task in plan.tasks} == {
        "colours": (11, 110, 0),
        "reverse": (20, 200, 30),
        "reviews": (20, 200, 30),
    }
    # Five more queries of each task, and two rows of colours are left; the run gives what it lacks to the others.
    assert later("new") == {"reviews": (5, 30), "colours": (2, 12), "reverse": (5, 30)}
    allocated = later("allocated")
    assert allocated["colours"] == (2, 12) and {allocated["reviews"], allocated["reverse"]} == {(7, 42), (6, 36)}
