"""The verdict: what it is about, what it says for known answers, and how often it is right about an oracle."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from udr.data import open_collection
from udr.models import BASE_ENCODER
from udr.types import Json
from udr_training.config import RunConfig
from udr_training.evaluation import Estimate, Evaluation, Outcome, TaskResult, Verdict, judge_gain, prove, verdict


def answers(right: int, count: int, first: int = 0) -> Estimate:
    """Right answers to ``right`` of ``count`` rows, from the row ``first`` on."""
    rows = np.zeros(count)
    rows[first : first + right] = 100
    return Estimate.of_rows(rows)


def verdict_of(
    values: dict[str, Estimate], runs: tuple[str, ...] = ("run",), metric: str = "accuracy", baseline: str | None = None
) -> Verdict:
    results = tuple(
        TaskResult("tickets", "mail", metric, name, 4, len(value.rows if value.rows is not None else ()), value)
        for name, value in values.items()
    )
    labels = {name: name for name in values}
    return verdict(Evaluation(labels, (4,), baseline or next(iter(values)), results, {}, runs))


def test_a_clear_gain_pays() -> None:
    values = {"random": answers(60, 100), "bm25": answers(78, 100), "run": answers(88, 100), "oracle": answers(99, 100)}
    assert verdict_of(values) == Verdict(
        sentence="Training pays here: 88 of 100 right in place of 78 by bm25, the best untrained retriever "
        "(+10, likely between +3.4 and +16.2, by 100 test rows).",
        outcome=Outcome.PAYS,
        retriever="run",
        over="bm25",
    )


def test_the_best_of_several_has_to_be_farther_ahead() -> None:
    values = {"bm25": answers(80, 100), "best": answers(88, 100)}
    alone = verdict_of(values, ())
    assert alone.outcome is Outcome.PAYS and "(+8, likely between +2 and +13.7, by 100 test rows)" in alone.sentence
    several = verdict_of(values | {f"other-{number}": answers(80, 100) for number in range(9)}, ())
    # 2.80, the 99.75 % quantile, in place of 1.96.
    assert "(+8, likely between −0.6 and +13.7 as the best of 10, by 100 test rows)" in several.sentence
    assert (several.outcome, several.retriever) == (Outcome.TOO_FEW_ROWS, "best") and several.rows_missing > 0


@pytest.mark.parametrize(
    ("without", "shown", "count", "sentence"),
    [
        (
            60,
            80,
            100,
            "Demonstrations help here: with 4 of minilm, 80 of 100 right in place of 60 without any (+20, lik",
        ),
        (
            80,
            60,
            100,
            "Demonstrations harm here: with 4 of minilm, 60 of 100 right in place of 80 without any (−20, lik",
        ),
        (
            6000,
            6010,
            10000,
            "Demonstrations do not help here: with 4 of minilm, 60.1 of 100 right in place of 60 without ",
        ),
        (
            15,
            16,
            20,
            "Too few test rows to tell whether demonstrations help: with 4 of minilm, 80 of 100 right in place ",
        ),
        (10, 10, 10, "Demonstrations have nothing to add here: without any, all 10 test rows are right. "),
    ],
)
def test_a_verdict_begins_with_whether_demonstrations_help(without: int, shown: int, count: int, sentence: str) -> None:
    # BM25 answers worse, and the oracle is no retriever.
    right = {"bm25": shown - 1, "minilm": shown, "oracle": count}
    results = tuple(
        TaskResult("tickets", "mail", "accuracy", name, shots, count, answers(right[name] if shots else without, count))
        for shots in (0, 4)
        for name in right
    )
    labels = {name: name for name in right}
    config: dict[str, Json] = {"task_folder": "tasks", "pool": None}
    config["tasks"] = {"tickets": {"test_rows": count, "of": count + 9, "pool": 900}}
    both = Evaluation(labels, (0, 4), "bm25", results, config, ())
    alone = verdict(replace(both, shots=(4,)))
    found = verdict(both)
    assert found.sentence.startswith(sentence) and found.sentence.endswith(f" {alone.sentence}")
    assert (found.outcome, found.over, found.rows_missing) == (alone.outcome, "bm25", alone.rows_missing)
    assert both.help("minilm", 4).value == pytest.approx(100 * (shown - without) / count)
    assert found.remedy.startswith("9 test rows are left out") == ("Too few" in found.sentence)


def test_a_run_that_starts_from_another_runs_encoder_is_judged_itself(
    tasks: Path, trained_run: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    old, new = (Path(shutil.copytree(trained_run, tmp_path / name)) for name in ("old", "new"))
    config = replace(run_config, train=replace(run_config.train, model=str(old / "model")))
    evaluation = prove(new, open_collection(tasks, ("reviews",)), config, 2, lambda _: None)
    assert evaluation is not None and evaluation.runs == (str(new),)
    # Both have the same encoder, so the older one is the best that was there before, or as good.
    assert evaluation.subject == str(new) and evaluation.gain(str(new), 4, over=str(old / "model")).value == 0
    result = verdict(evaluation)
    assert (result.retriever, result.over) == (str(new), evaluation.best_untrained[0])
    assert str(new) not in evaluation.best_untrained


def test_a_training_of_the_base_is_compared_with_the_encoder_of_new_indexes(
    tasks: Path, trained_run: Path, run_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, default = Path(shutil.copytree(trained_run, tmp_path / "run")), str(trained_run / "model")
    monkeypatch.setattr("udr_training.evaluation.after_training.DEFAULT_ENCODER", default)
    config = replace(run_config, train=replace(run_config.train, model=BASE_ENCODER))
    evaluation = prove(run, open_collection(tasks, ("reviews",)), config, 2, lambda _: None)
    assert evaluation is not None and set(evaluation.labels) == {"random", "bm25", default, str(run)}


def test_a_run_may_have_the_name_of_a_retriever(
    tasks: Path, trained_run: Path, run_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_run, tmp_path / "bm25")
    monkeypatch.chdir(tmp_path)
    config = replace(run_config, train=replace(run_config.train, model=str(trained_run / "model")))
    evaluation = prove(Path("bm25"), open_collection(tasks, ("reviews",)), config, 2, lambda _: None)
    assert evaluation is not None and evaluation.runs == ("./bm25",)
    assert "./bm25" in evaluation.use_all


def test_what_a_service_searches_by_is_not_known_to_be_untrained() -> None:
    values = {"http://127.0.0.1:8000": answers(90, 100), "bm25": answers(78, 100), "run": answers(88, 100)}
    assert verdict_of(values).over == "bm25"
    assert verdict_of({name: value for name, value in values.items() if name != "bm25"}).over == "http://127.0.0.1:8000"


def test_a_loss_and_a_small_gain_do_not_pay() -> None:
    loss = verdict_of({"bm25": answers(78, 100), "run": answers(66, 100)})
    assert loss.outcome is Outcome.DOES_NOT_PAY
    assert loss.sentence.startswith("Training does not pay here: 66 of 100 right in place of 78 by bm25")
    small = verdict_of({"bm25": answers(7800, 10000), "run": answers(7810, 10000)}, baseline="run")
    assert (small.outcome, small.rows_missing) == (Outcome.DOES_NOT_PAY, 0)
    assert "78.1 of 100 right in place of 78 " in small.sentence and "(+0.1, likely between " in small.sentence


def test_too_few_rows_name_how_many_more() -> None:
    result = verdict_of({"bm25": answers(15, 20), "run": answers(17, 20, first=1)})
    assert result.outcome is Outcome.TOO_FEW_ROWS and result.rows_missing > 20
    assert result.sentence == (
        "Too few test rows to tell whether training pays: 85 of 100 right in place of 75 by bm25, the best untrained "
        "retriever (+10, likely between −12.4 and +30.6, by 20 test rows); about "
        f"{result.rows_missing:,} more test rows are needed for a gain of this size."
    )
    equal = verdict_of({"bm25": answers(18, 20), "run": answers(18, 20)})
    assert equal.outcome is Outcome.TOO_FEW_ROWS and "needed for a gain of 2 points." in equal.sentence


def test_rows_that_are_all_right_already_leave_nothing_to_gain() -> None:
    result = verdict_of({"bm25": answers(10, 10), "run": answers(10, 10)})
    assert result.outcome is Outcome.TOO_FEW_ROWS and result.sentence == (
        "These test rows leave nothing to gain: bm25, the best untrained retriever, gets all 10 of them right. More "
        "rows, or harder ones, would tell more."
    )


def test_untrained_retrievers_that_tie_are_both_named() -> None:
    values = {"random": answers(70, 100), "bm25": answers(78, 100), "minilm": answers(78, 100, first=10)}
    result = verdict_of(values | {"run": answers(88, 100)})
    assert "in place of 78 by bm25 and minilm, the best untrained retrievers (+10" in result.sentence
    three = verdict_of({**values, "random": answers(78, 100), "run": answers(88, 100)})
    assert "in place of 78 by random, bm25 and minilm, the best" in three.sentence
    full = verdict_of({"random": answers(10, 10), "bm25": answers(10, 10), "run": answers(10, 10)})
    assert "to gain: random and bm25, the best untrained retrievers, get all 10 of them right." in full.sentence


def test_without_a_run_the_best_is_compared_with_the_baseline() -> None:
    values = {"bm25": answers(60, 100), "minilm": answers(80, 100)}
    assert verdict_of(values, ()).sentence.startswith("minilm is better than bm25 here: 80 of 100 right in place of ")
    values = {"bm25": answers(80, 100), "minilm": answers(60, 100)}
    assert verdict_of(values, ()).sentence.startswith("minilm is not better than bm25 here: 60 of 100 right")
    alone = verdict_of({"bm25": answers(80, 100)}, ())
    assert (
        alone.sentence == "With bm25: 80 of 100 right, likely between 71.1 and 86.7, by 100 test rows."
        and alone.outcome is None
    )
    runs = verdict_of({"first": answers(80, 100), "second": answers(60, 100)}, ("first", "second"), baseline="second")
    assert runs.sentence.startswith("first is better than second here")


def test_other_metrics_count_points() -> None:
    generator = np.random.default_rng(0)
    rows = generator.uniform(20, 60, 200)
    values = {"bm25": Estimate.of_rows(rows), "run": Estimate.of_rows(rows + generator.uniform(0, 20, 200))}
    sentence = verdict_of(values, metric="rouge_l").sentence
    assert sentence.startswith("Training pays here: ") and " points of 100 in place of " in sentence


@pytest.mark.parametrize(
    ("gain", "rows", "outcomes"),
    [
        (0.0, 60, {Outcome.TOO_FEW_ROWS, Outcome.DOES_NOT_PAY}),
        (0.0, 8000, {Outcome.DOES_NOT_PAY}),
        (8.0, 2000, {Outcome.PAYS}),
        (-8.0, 2000, {Outcome.DOES_NOT_PAY}),
        (6.0, 25, {Outcome.TOO_FEW_ROWS}),
    ],
)
def test_an_oracle_with_a_known_gain_gets_the_right_verdict(gain: float, rows: int, outcomes: set[Outcome]) -> None:
    generator = np.random.default_rng(rows)
    seen = []
    for _ in range(200):
        both = generator.random(rows)
        base, better = Estimate.of_rows(100.0 * (both < 0.7)), 0.7 + gain / 100
        # They differ on one row of ten by chance, too.
        flipped = generator.random(rows) < 0.1
        other = Estimate.of_rows(100.0 * np.where(flipped, generator.random(rows) < better, both < better))
        seen.append(judge_gain(other - base, rows)[0])
    assert np.mean([outcome in outcomes for outcome in seen]) >= 0.85
    # Chance alone rarely looks like a gain.
    assert gain > 0 or np.mean([outcome is Outcome.PAYS for outcome in seen]) <= 0.05
