"""Reports of numbers that are known: means, families, gains, and the words around them."""

import numpy as np
import pytest

from tests.training.evaluation.report.invented import NAMES, invented
from udr_training.evaluation import Estimate, Evaluation, TaskResult
from udr_training.evaluation.report import (
    counted,
    facts,
    interval,
    is_clear,
    markdown,
    points,
    signed,
    summary,
    table,
    with_shots,
)

CONFIG = invented().config


def estimate(value: float, spread: float = 2.0) -> Estimate:
    """A value whose interval is 0.95 times the spread on both sides."""
    return Estimate(value, value + np.linspace(-spread, spread, 1001))


def known(**values: dict[str, float]) -> Evaluation:
    """An evaluation of two families: a1 and a2 are of one, b of the other."""
    results = [
        TaskResult(task, task[0], "accuracy", name, 4, 100, estimate(value))
        for task, own in values.items()
        for name, value in own.items()
    ]
    names = list(next(iter(values.values())))
    return Evaluation({name: name for name in names}, (4,), names[0], tuple(results), CONFIG)


THREE = known(
    a1={"bm25": 40, "run": 50, "oracle": 90},
    a2={"bm25": 60, "run": 64, "oracle": 91},
    b={"bm25": 10, "run": 6, "oracle": 20},
)


def test_means_count_tasks_once_and_families_hold_their_own() -> None:
    assert THREE.families == {"a": ("a1", "a2"), "b": ("b",)}
    assert THREE.value("run", 4).value == pytest.approx(40)
    assert THREE.value("run", 4, ["a1", "a2"]).value == 57
    assert THREE.gain("run", 4).value == pytest.approx((10 + 4 - 4) / 3)
    assert THREE.gain("run", 4, ["b"]).interval == pytest.approx((-4, -4))
    assert (THREE.others, THREE.best(4), THREE.num_rows) == (("run", "oracle"), "run", 300)


def test_the_json_holds_means_families_tasks_and_gains_with_intervals() -> None:
    answer = THREE.to_json()
    assert set(answer) == {"means", "families", "tasks", "gains", "config"}
    means, tasks, gains = answer["means"], answer["tasks"], answer["gains"]
    assert isinstance(means, list) and isinstance(tasks, list) and isinstance(gains, dict)
    assert means[1] == {"retriever": "run", "label": "run", "shots": 4, "mean": 40.0, "low": 38.1, "high": 41.9}
    assert tasks[1] == {
        "task": "a1",
        "family": "a",
        "retriever": "run",
        "label": "run",
        "shots": 4,
        "metric": "accuracy",
        "value": 50.0,
        "low": 48.1,
        "high": 51.9,
        "rows": 100,
    }
    assert gains["baseline"] == "bm25" and len(gains["tasks"]) == 3 * 2 and len(gains["families"]) == 2 * 2
    assert gains["families"][0] == {
        "family": "a",
        "retriever": "run",
        "label": "run",
        "shots": 4,
        "gain": 7.0,
        "low": 7.0,
        "high": 7.0,
    }


def test_the_table_ends_with_means_and_gains() -> None:
    assert table(THREE).splitlines() == [
        "task            bm25               run                oracle",
        "a1              40.0               50.0               90.0",
        "a2              60.0               64.0               91.0",
        "b               10.0               6.0                20.0",
        "mean            36.7 [34.8, 38.6]  40.0 [38.1, 41.9]  67.0 [65.1, 68.9]",
        "gain over bm25                     +3.3 [+3.3, +3.3]  +30.3 [+30.3, +30.3]",
    ]


def test_a_single_retriever_gains_nothing_and_has_no_row_for_it() -> None:
    alone = known(a1={"bm25": 40})
    assert "gain" not in table(alone) and "Gains" not in markdown(alone)
    assert (
        summary(alone) == "With 4 demonstrations a prompt, bm25 reaches 40.0 points on a1 (95 % interval 38.1 to 41.9)."
    )


def test_the_summary_names_the_best_what_it_gains_and_how_sure_that_is() -> None:
    assert summary(THREE) == (
        "With 4 demonstrations a prompt, run reaches 40.0 points on average over 3 tasks, 3.3 more than bm25 "
        "(95 % interval of the difference +3.3 to +3.3). "
        "The oracle, which reads the gold answers and is no retriever, reaches 67.0: the headroom."
    )
    worse = known(a1={"bm25": 40, "run": 39})
    worse = Evaluation(worse.labels, (4,), "bm25", (worse.results[0], unpaired(worse.results[1])), CONFIG)
    assert "39.0 points on a1, 1.0 less than bm25 (95 % interval of the difference −4.8 to +2.8)" in summary(worse)
    assert summary(worse).endswith("That interval includes 0: the difference may be chance.")


def unpaired(result: TaskResult) -> TaskResult:
    """The same value on other draws."""
    own = Estimate(result.estimate.value, result.estimate.samples[::-1])
    return TaskResult(result.task, result.family, result.metric, result.retriever, result.shots, 100, own)


def test_markdown_has_all_tasks_families_and_tasks_with_values_and_gains() -> None:
    text = markdown(THREE)
    assert "| mean of 3 tasks | 36.7 [34.8, 38.6] | 40.0 [38.1, 41.9] | 67.0 [65.1, 68.9] |" in text
    assert "| family a | 50.0 [48.1, 51.9] | 57.0 [55.1, 58.9] | 90.5 [88.6, 92.4] |" in text
    assert "| b |  | −4.0 [−4.0, −4.0] | +10.0 [+10.0, +10.0] |" in text
    assert "- gains are over: bm25" in text and "no retriever" in text
    assert "family a" not in markdown(known(a1={"bm25": 40, "run": 50}, a2={"bm25": 60, "run": 64}))


def test_every_number_of_demonstrations_has_tables_of_its_own() -> None:
    text = markdown(invented())
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## With no demonstration",
        "## With 1 demonstration",
        "## With 4 demonstrations",
        "## What was run",
    ]
    assert table(invented()).count("gain over bm25") == 3


def test_names_are_shown_as_they_are() -> None:
    odd = known(a1={"a|b": 1, "<c>*": 2})
    assert r"|  | a\|b | \<c>\* |" in markdown(odd)


def test_what_was_run_names_models_cuts_seeds_and_versions() -> None:
    told = dict(facts(invented()))
    assert told["my-first-run"] == NAMES[4] and told["my-first-run/iteration-0"] == NAMES[3]
    assert told["oracle"] == "the best of 12 candidates, half of them random, scored after no demonstration"
    assert told["test rows"] == "3,000, at most 250 a task" and told["pools"] == "whole"
    assert told["udr"] == "0.1.0" and told["seed"].startswith("0,") and "2000 resamples" in told["intervals"]
    assert "oracle" not in dict(facts(invented(retrievers=("bm25", "random"))))


@pytest.mark.parametrize(
    ("value", "plain", "gain"),
    [
        (9.44, "9.4", "+9.4"),
        (-1.26, "−1.3", "−1.3"),
        (0.04, "0.0", "0.0"),
        (-0.04, "0.0", "0.0"),
        (100, "100.0", "+100.0"),
    ],
)
def test_numbers_have_one_decimal_and_nothing_has_no_sign(value: float, plain: str, gain: str) -> None:
    assert (points(value), signed(value)) == (plain, gain)


def test_words_for_numbers() -> None:
    assert [with_shots(number) for number in (0, 1, 2)] == ["no demonstration", "1 demonstration", "2 demonstrations"]
    assert [counted(1, "family"), counted(2, "family"), counted(1200, "task")] == [
        "1 family",
        "2 families",
        "1,200 tasks",
    ]
    assert interval(estimate(10, 2)) == "[8.1, 11.9]" and interval(estimate(1, 2), gain=True) == "[−0.9, +2.9]"
    assert is_clear(estimate(3, 2)) and is_clear(estimate(-3, 2)) and not is_clear(estimate(1, 2))
