"""Evaluation: the same queries for every retriever, nearest demonstration last, values that can be checked."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.copy_lm import CopyLM
from udr.data import Metric, Pool, Template, open_collection
from udr.errors import ConfigError, DataError, ModelError
from udr.types import Row
from udr_training.evaluation import EvaluationConfig, NamedRetriever, evaluate, predict, sari, task_estimate
from udr_training.feedback.local import CausalLM


def test_the_nearest_demonstration_is_shown_last(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    good = next(row for row in pool.rows if row.target == "good")
    bad = next(row for row in pool.rows if row.target == "bad")
    assert predict(CopyLM(), pool, [pool.rows[3]], [[good, bad]]) == ["good"]
    assert predict(CopyLM(), pool, [pool.rows[3]], [[bad, good]]) == ["bad"]


def test_generation_and_multiple_choice_answer_too(pools: dict[str, Pool]) -> None:
    for name in ("reverse", "colours"):
        pool = pools[name]
        assert predict(CopyLM(), pool, [pool.rows[0]], [[pool.rows[4]]]) == [pool.rows[4].target]


def test_what_follows_the_target_in_the_template_is_no_part_of_a_generated_answer(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    task = replace(pool.task, output=Template("Reversed: {target};"))
    shown = Pool(task, pool.rows)
    assert predict(CopyLM(), shown, [pool.rows[0]], [[pool.rows[4]]]) == [pool.rows[4].target]


def test_sari_looks_at_the_words_of_the_input_alone(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    task = replace(pool.task, metric=Metric.SARI)
    (row,) = pool.rows[:1]
    expected = 100 * sari("a b", [row.target], str(row.input["words"]))
    assert task_estimate(task, [row], ["a b"], 0).value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["random", "bm25"])
def test_a_retriever_never_shows_the_query_or_a_copy(pools: dict[str, Pool], name: str) -> None:
    pool = pools["reviews"]
    copy = Row(id="other", input=pool.rows[2].input, target="good")
    for shown in NamedRetriever(name, 0).demonstrations(pool, [pool.rows[2], copy], 23):
        assert len(shown) == 23 and pool.rows[2].id not in {row.id for row in shown}


def test_bm25_nearest_first_and_filled_up(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    query = Row(id="q", input={"text": "train 7"}, target="good")
    assert NamedRetriever("bm25", 0).demonstrations(pool, [query], 24)[0][0].input == pool.rows[7].input
    unknown = Row(id="q", input={"text": "?"}, target="good")
    assert len(NamedRetriever("bm25", 0).demonstrations(pool, [unknown], 5)[0]) == 5


def test_all_kinds_of_tasks_and_retrievers_in_one_evaluation(
    tasks: Path, lm_folder: Path, encoder_folder: Path
) -> None:
    names = ("random", "bm25", str(encoder_folder), "oracle")
    config = EvaluationConfig(retrievers=names, shots=(2,), limit=3, pool=20, oracle_candidates=3)
    evaluation = evaluate(open_collection(tasks), CausalLM.load(str(lm_folder)), config)
    answer = evaluation.to_json()
    means, values = answer["means"], answer["tasks"]
    assert isinstance(means, list) and isinstance(values, list)
    assert [(mean["retriever"], mean["shots"]) for mean in means] == [(name, 2) for name in names]
    assert [(v["task"], v["family"], v["retriever"]) for v in values] == [
        (t, f, n) for t, f in (("colours", "choice"), ("reverse", "words"), ("reviews", "opinion")) for n in names
    ]
    for place, mean in enumerate(means):
        own = [result.estimate.value for result in evaluation.results[place :: len(names)]]
        assert mean["mean"] == pytest.approx(np.mean(own), abs=0.01)
        assert 0 <= mean["low"] <= mean["mean"] <= mean["high"] <= 100


def test_two_evaluations_give_the_same_numbers(tasks: Path) -> None:
    collection, config = open_collection(tasks, ["reviews"]), EvaluationConfig(retrievers=("random", "bm25"))
    one, two = (evaluate(collection, CopyLM(), config) for _ in range(2))
    assert one.to_json() == two.to_json()


def test_each_number_of_demonstrations_is_what_it_would_be_alone(tasks: Path) -> None:
    collection, names = open_collection(tasks, ["reviews"]), ("random", "bm25")
    together = evaluate(collection, CopyLM(), EvaluationConfig(retrievers=names, shots=(3, 1)))
    for shots in (1, 3):
        alone = evaluate(collection, CopyLM(), EvaluationConfig(retrievers=names, shots=(shots,)))
        for name in names:
            assert together.value(name, shots).value == alone.value(name, shots).value
    assert together.main_shots == 3


def test_without_demonstrations_the_language_model_is_asked_once_for_all_retrievers(tasks: Path) -> None:
    lm = CopyLM()
    config = EvaluationConfig(retrievers=("random", "bm25", "oracle"), shots=(0,))
    evaluation = evaluate(open_collection(tasks, ["reviews"]), lm, config)
    assert (lm.asked, lm.scored) == (4, 0)
    gain = evaluation.gain("random", 0)
    assert (gain.value, *gain.interval) == (0, 0, 0)


def test_a_wrong_name_or_row_is_an_error_before_anything_is_asked(tasks: Path, tmp_path: Path) -> None:
    lm = CopyLM()
    with pytest.raises(ModelError, match="no such file"):
        evaluate(open_collection(tasks), lm, EvaluationConfig(retrievers=("random", "./nowhere")))
    shutil.copytree(tasks, tmp_path / "tasks")
    (tmp_path / "tasks" / "opinion" / "reviews" / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"needs one of test\.jsonl"):
        evaluate(open_collection(tmp_path / "tasks"), lm, EvaluationConfig(retrievers=("random",)))
    (tmp_path / "config.toml").write_text("", "utf-8")
    with pytest.raises(ConfigError, match="is an unfinished run"):
        evaluate(open_collection(tasks), lm, EvaluationConfig(retrievers=(str(tmp_path),)))
    assert lm.asked == 0
