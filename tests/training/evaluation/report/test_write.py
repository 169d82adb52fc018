"""Reports of known numbers: means, families, gains, and the text around them."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.evaluation.report.invented import NAMES, invented
from udr_training.evaluation import Estimate, Evaluation, TaskResult, report

CONFIG, LABELS = invented().config, ("random", "bm25")


def estimate(value: float, spread: float = 2.0) -> Estimate:
    """An estimate whose interval is 0.95 times the spread on both sides."""
    return Estimate.of_samples(value, value + np.linspace(-spread, spread, 1001))


def evaluation(**values: dict[str, float]) -> Evaluation:
    """An evaluation whose families are the first letters of the tasks."""
    results = [
        TaskResult(task, task[0], "accuracy", name, 4, 100, estimate(value))
        for task, own in values.items()
        for name, value in own.items()
    ]
    names = list(next(iter(values.values())))
    return Evaluation({name: name for name in names}, (4,), names[0], tuple(results), CONFIG)


THREE = evaluation(
    a1={"bm25": 40, "run": 50, "oracle": 90},
    a2={"bm25": 60, "run": 64, "oracle": 91},
    b={"bm25": 10, "run": 6, "oracle": 20},
)
ALONE = evaluation(a1={"bm25": 40})


def test_means_count_tasks_once() -> None:
    assert THREE.families == {"a": ("a1", "a2"), "b": ("b",)}
    assert THREE.value("run", 4).value == pytest.approx(40)
    assert THREE.value("run", 4, ["a1", "a2"]).value == 57
    assert THREE.gain("run", 4).value == pytest.approx((10 + 4 - 4) / 3)
    assert THREE.gain("run", 4, ["b"]).interval == pytest.approx((-4, -4))
    assert (THREE.others, THREE.subject, THREE.rival, THREE.num_rows) == (("run", "oracle"), "run", "bm25", 300)


def test_json_has_means_families_tasks_and_gains() -> None:
    answer: dict[str, Any] = THREE.to_json()
    run = {"retriever": "run", "label": "run", "shots": 4}
    assert list(answer) == ["means", "families", "tasks", "gains", "config"]
    assert answer["means"][1] == {**run, "mean": 40.0, "low": 38.9, "high": 41.1, "interval": "mover"}
    value = {"metric": "accuracy", "value": 50.0, "low": 48.1, "high": 51.9, "interval": "percentiles", "rows": 100}
    assert list(answer["tasks"][1].items()) == list({"task": "a1", "family": "a", **run, **value}.items())
    gains = answer["gains"]
    assert gains["baseline"] == "bm25" and (len(gains["tasks"]), len(gains["families"])) == (3 * 2, 2 * 2)
    assert list(gains["families"][0].items()) == list(
        {"family": "a", **run, "gain": 7.0, "low": 7.0, "high": 7.0, "interval": "mover"}.items()
    )


def test_table_ends_with_means_and_gains() -> None:
    assert report.table(THREE).splitlines() == [
        "task            bm25               run                oracle",
        "a1              40.0               50.0               90.0",
        "a2              60.0               64.0               91.0",
        "b               10.0               6.0                20.0",
        "mean            36.7 [35.6, 37.8]  40.0 [38.9, 41.1]  67.0 [65.9, 68.1]",
        "gain over bm25                     +3.3 [+3.3, +3.3]  +30.3 [+30.3, +30.3]",
    ]
    assert "gain" not in report.table(ALONE) and "Gains" not in report.markdown(ALONE)
    assert report.table(ALONE).splitlines() == ["task  bm25", "a1    40.0 [38.1, 41.9]"]
    assert "mean of" not in report.markdown(ALONE)


def test_summary_is_the_verdict_with_how_it_was_measured_and_the_headroom() -> None:
    assert report.summary(THREE) == (
        "run is better than bm25 here: 40 of 100 right, on average over 3 tasks, in place of 36.7 by bm25 "
        "(+3.3, likely between +3.3 and +3.3, by 300 test rows). Measured with 4 demonstrations per prompt. "
        "The oracle, which reads the gold answers and so is not a retriever, reaches 67.0: the headroom."
    )
    assert report.summary(ALONE) == (
        "With bm25: 40 of 100 right, likely between 38.1 and 41.9, by 100 test rows. "
        "Measured with 4 demonstrations per prompt."
    )
    bm25, run = evaluation(a1={"bm25": 40, "run": 39}).results
    assert run.estimate.samples is not None
    unpaired = replace(run, estimate=Estimate.of_samples(39, run.estimate.samples[::-1]))
    result = replace(evaluation(a1={"bm25": 40, "run": 39}), results=(bm25, unpaired), runs=("run",))
    assert report.summary(result).startswith("Too few test rows to tell whether training pays: 39 of 100 right")
    answer: dict[str, Any] = report.report_json(result)
    assert answer["verdict"]["sentence"] in report.summary(result)
    assert (answer["verdict"]["outcome"], answer["verdict"]["over"]) == ("too few test rows", "bm25")
    assert (report.title(result), report.title(THREE)) == ("Does training pay?", "Retriever evaluation")


def test_markdown_has_values_and_gains_of_all_tasks_families_and_tasks() -> None:
    text = report.markdown(THREE)
    for line in (
        "| mean of 3 tasks | 36.7 [35.6, 37.8] | 40.0 [38.9, 41.1] | 67.0 [65.9, 68.1] |",
        "| family a | 50.0 [48.7, 51.3] | 57.0 [55.7, 58.3] | 90.5 [89.2, 91.8] |",
        "| b |  | −4.0 [−4.0, −4.0] | +10.0 [+10.0, +10.0] |",
        "- baseline of gains: bm25",
    ):
        assert line in text.splitlines()
    assert "family a" not in report.markdown(evaluation(a1={"bm25": 40, "run": 50}, a2={"bm25": 60, "run": 64}))
    assert r"|  | a\|b | \<c>\* |" in report.markdown(evaluation(a1={"a|b": 1, "<c>*": 2}))


def test_every_number_of_demonstrations_has_its_tables() -> None:
    headings = [line for line in report.markdown(invented()).splitlines() if line.startswith("## ")]
    numbers = ("no demonstration", "1 demonstration", "4 demonstrations")
    assert headings == [*(f"## With {number}" for number in numbers), "## What was run"]
    assert report.table(invented()).count("gain over bm25") == 3


def test_gains_over_no_demonstration_are_in_all_reports() -> None:
    found = invented(shots=(0, 4), retrievers=("random", "bm25"))
    cells = [
        f"{report.signed(gain.value)} {report.interval(gain, gain=True)}" for gain in map(found.help, LABELS, (4, 4))
    ]
    assert found.help("bm25", 4).value == pytest.approx(found.value("bm25", 4).value - found.value("bm25", 0).value)
    (line,) = [line for line in report.table(found).splitlines() if line.startswith("gain over no demonstration")]
    assert re.split("  +", line)[1:] == cells
    text = report.markdown(found)
    assert (
        text.count("### Gains over no demonstration\n") == 1 and f"| mean of 12 tasks | {' | '.join(cells)} |" in text
    )
    answer: dict[str, Any] = found.to_json()
    helped = answer["help"]
    assert [(each["label"], each["shots"], each["help"]) for each in helped["means"]] == [
        (name, 4, round(found.help(name, 4).value, 2)) for name in LABELS
    ]
    assert (len(helped["families"]), len(helped["tasks"])) == (4 * 2, 12 * 2)
    assert "help" not in THREE.to_json() and "no demonstration" not in report.table(THREE)


def test_facts_have_models_samples_seeds_and_versions() -> None:
    titles = dict(report.facts(invented()))
    assert titles["my-first-run"] == NAMES[4] and titles["my-first-run/iteration-0"] == NAMES[3]
    assert titles["oracle"] == "the best of 12 candidates, half of them random, scored after no demonstration"
    assert titles["test rows"] == "3,000, at most 250 per task" and titles["pools"] == "whole"
    assert titles["udr"] == "0.1.0" and titles["seed"].startswith("0,")
    for method in ("Wilson", "bootstrap-t over test rows, 2000 resamples", "Bonett and Price"):
        assert method in titles["intervals"]
    assert "oracle" not in dict(report.facts(invented(retrievers=("bm25", "random"))))


def test_numbers_have_one_decimal_and_zero_has_no_sign_and_nouns_a_plural() -> None:
    numbers = (9.44, -1.26, 0.04, -0.04, 100)
    assert [report.points(value) for value in numbers] == ["9.4", "−1.3", "0.0", "0.0", "100.0"]
    assert [report.signed(value) for value in numbers] == ["+9.4", "−1.3", "0.0", "0.0", "+100.0"]
    shots = [report.with_shots(number) for number in (0, 1, 2)]
    assert shots == ["no demonstration", "1 demonstration", "2 demonstrations"]
    nouns = [report.counted(1, "family"), report.counted(2, "family"), report.counted(1200, "task")]
    assert nouns == ["1 family", "2 families", "1,200 tasks"]
    assert report.interval(estimate(10)) == "[8.1, 11.9]" and report.interval(estimate(1), gain=True) == "[−0.9, +2.9]"
    assert [report.is_clear(estimate(value)) for value in (3, -3, 1)] == [True, True, False]
