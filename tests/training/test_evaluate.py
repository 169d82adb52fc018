"""Evaluation: the same queries for every retriever, nearest demonstration last, values that can be checked."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from udr.errors import ConfigError, DataError, ModelError
from udr.pool import Pool, open_collection
from udr.tasks import Metric, Template
from udr.types import Row
from udr_training.evaluate import EvaluationConfig, evaluate, predict, table
from udr_training.feedback.causal_lm import CausalLM
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens
from udr_training.metrics import sari
from udr_training.retrievers import NamedRetriever


class CopyLM:
    """Answers with the target of the last demonstration it is shown; characters are tokens."""

    context = 100_000

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        return tuple(map(ord, text))

    def likelihoods(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        answers = []
        for prompt in prompts:
            last = "".join(map(chr, prompt.parts[-2])).strip().rpartition(": ")[2]
            sums = np.array([0.0 if "".join(map(chr, o)).strip() == last else -100.0 for o in prompt.options])
            answers.append(Likelihoods(sums, tuple(map(len, prompt.options))))
        return answers

    def generate(self, prompts: Sequence[Tokens], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        texts = ["".join(map(chr, prompt)) for prompt in prompts]
        return [text.split("\n\n")[-2].rpartition("Reversed: ")[2] for text in texts]


LM = cast("CausalLM", CopyLM())


def test_the_nearest_demonstration_is_shown_last(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    good = next(row for row in pool.rows if row.target == "good")
    bad = next(row for row in pool.rows if row.target == "bad")
    assert predict(LM, pool, [pool.rows[3]], [[good, bad]]) == ["good"]
    assert predict(LM, pool, [pool.rows[3]], [[bad, good]]) == ["bad"]


def test_generation_and_multiple_choice_answer_too(pools: dict[str, Pool]) -> None:
    for name in ("reverse", "colours"):
        pool = pools[name]
        assert predict(LM, pool, [pool.rows[0]], [[pool.rows[4]]]) == [pool.rows[4].target]


def test_what_follows_the_target_in_the_template_is_no_part_of_a_generated_answer(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    task = replace(pool.task, output=Template("Reversed: {target};"))
    shown = Pool(task, pool.rows)
    assert predict(LM, shown, [pool.rows[0]], [[pool.rows[4]]]) == [pool.rows[4].target]


def test_sari_looks_at_the_words_of_the_input_alone(pools: dict[str, Pool]) -> None:
    pool = pools["reverse"]
    task = replace(pool.task, metric=Metric.SARI)
    (row,) = pool.rows[:1]
    from udr_training.evaluate import _result

    expected = 100 * sari("a b", [row.target], str(row.input["words"]))
    assert _result(task, "any", [row], ["a b"], 0).value == pytest.approx(expected)


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
    assert (
        len(NamedRetriever("bm25", 0).demonstrations(pool, [Row(id="q", input={"text": "?"}, target="good")], 5)[0])
        == 5
    )


def test_all_kinds_of_tasks_and_retrievers_in_one_evaluation(
    tasks: Path, lm_folder: Path, encoder_folder: Path
) -> None:
    names = ["random", "bm25", str(encoder_folder)]
    evaluation = evaluate(
        open_collection(tasks), names, CausalLM.load(str(lm_folder)), EvaluationConfig(shots=2, limit=3, pool=20)
    )
    answer = evaluation.to_json()
    means, values = answer["means"], answer["tasks"]
    assert isinstance(means, list) and isinstance(values, list)
    assert [mean["retriever"] for mean in means] == names
    assert [(v["task"], v["retriever"]) for v in values] == [
        (t, n) for t in ("colours", "reverse", "reviews") for n in names
    ]
    for place, mean in enumerate(means):
        own = [result.value for result in evaluation.results[place::3]]
        assert mean["mean"] == pytest.approx(np.mean(own), abs=0.01)
        assert 0 <= mean["low"] <= mean["mean"] <= mean["high"] <= 100
    assert table(evaluation).splitlines()[0].split() == ["task", *names]


def test_two_evaluations_give_the_same_numbers(tasks: Path) -> None:
    collection = open_collection(tasks, ["reviews"])
    one, two = (evaluate(collection, ["random", "bm25"], LM, EvaluationConfig(shots=3)) for _ in range(2))
    assert one.to_json() == two.to_json()


def test_a_wrong_name_or_row_is_an_error_before_anything_runs(tasks: Path, tmp_path: Path) -> None:
    silent = cast("CausalLM", None)
    with pytest.raises(ModelError, match="no such file"):
        evaluate(open_collection(tasks), ["random", "./nowhere"], silent, EvaluationConfig())
    shutil.copytree(tasks, tmp_path / "tasks")
    (tmp_path / "tasks" / "opinion" / "reviews" / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"needs one of test\.jsonl"):
        evaluate(open_collection(tmp_path / "tasks"), ["random"], silent, EvaluationConfig())
    (tmp_path / "config.toml").write_text("", "utf-8")
    with pytest.raises(ConfigError, match="not finished"):
        evaluate(open_collection(tasks), [str(tmp_path)], LM, EvaluationConfig())
