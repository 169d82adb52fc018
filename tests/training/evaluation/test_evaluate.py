"""Evaluation: the same queries for every retriever, nearest demonstration last, values that can be checked."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, write_task
from tests.training.copy_lm import CopyLM
from udr.data import Metric, Pool, Template, open_collection
from udr.errors import ConfigError, DataError, FeedbackError, ModelError, UdrError
from udr.types import Row
from udr_training.answering import sari
from udr_training.evaluation import EvaluationConfig, Shown, evaluate, open_retriever, predict, task_estimate
from udr_training.evaluation.report import markdown
from udr_training.feedback.local import CausalLM


@pytest.mark.parametrize("name", ["reviews", "colours", "reverse"])
def test_the_nearest_demonstration_is_shown_last(pools: dict[str, Pool], name: str) -> None:
    pool = pools[name]
    query, first, second = pool.rows[3], pool.rows[4], pool.rows[5]
    # The model copies the last target.
    answers = predict(CopyLM(), pool, [query, query], [Shown([first, second]), Shown([second, first])], 2)
    assert [answer.text for answer in answers] == [first.target, second.target]


def test_generated_answers_exclude_what_follows_the_target(pools: dict[str, Pool]) -> None:
    rows = pools["reverse"].rows
    pool = Pool(replace(pools["reverse"].task, output=Template("Reversed: {target};")), rows)
    assert predict(CopyLM(), pool, [rows[0]], [Shown([rows[4]])], 1)[0].text == rows[4].target


def test_one_long_target_leaves_half_of_the_window_to_prompts(
    pools: dict[str, Pool], caplog: pytest.LogCaptureFixture
) -> None:
    class Narrow(CopyLM):
        context, rooms = 400, list[int]()

        def generate(self, prompts: Any, stop: Any, max_new_tokens: int, *more: Any, **settings: Any) -> list[str]:
            self.rooms.append(max_new_tokens)
            return super().generate(prompts, stop, max_new_tokens)

    task, rows = pools["reverse"].task, pools["reverse"].rows
    pool, lm = Pool(task, (replace(rows[0], target="x" * 17_000), *rows[1:])), Narrow()
    for query in rows[1:3]:
        assert predict(lm, pool, [query], [Shown([rows[4]])], 1)[0].text == rows[4].target
    assert lm.rooms == [200, 200]
    # Once, though answers are asked for in blocks.
    (record,) = caplog.records
    assert f"as long as the target of row '{rows[0].id}' needs 17008 tokens, more than half of" in record.getMessage()
    assert "window of 400; answers get that half" in record.getMessage()


def test_demonstrations_that_do_not_fit_the_window_are_left_out_and_counted(
    pools: dict[str, Pool], caplog: pytest.LogCaptureFixture
) -> None:
    class Narrow(CopyLM):
        context = 400

    pool, (query, nearest, long, *rows) = pools["reverse"], pools["reverse"].rows[:5]
    long, wordy = replace(long, target="x" * 500), replace(rows[0], input={"words": "w" * 500})
    shown = [Shown([nearest, long, *rows]), Shown([wordy, nearest])]
    answers = predict(Narrow(), pool, [query, query], shown, 4)
    assert [answer.demonstrations for answer in answers] == [(rows[1].id, rows[0].id, nearest.id), (nearest.id,)]
    (fewer,) = (record.getMessage() for record in caplog.records)
    assert fewer.startswith("task reverse: 2 of 2 prompts show fewer demonstrations than 4, to fit the language ")
    with pytest.raises(FeedbackError, match=r"needs \d+ tokens without any demonstration's input \(0 shown\)"):
        predict(Narrow(), pool, [replace(query, input={"words": "w" * 500})], shown[:1], 4)


def test_answers_may_be_empty_where_a_target_is(pools: dict[str, Pool]) -> None:
    asked = list[bool]()

    class Recording(CopyLM):
        def generate(self, *arguments: Any, empty: bool = False) -> list[str]:
            asked.append(empty)
            return super().generate(*arguments)

    pool = pools["reverse"]
    for rows in (pool.rows, (*pool.rows[:6], replace(pool.rows[6], target=""))):
        assert predict(Recording(), Pool(pool.task, rows), [rows[0]], [Shown([rows[4]])], 1)[0].text == rows[4].target
    assert asked == [False, True]


def test_sari_compares_with_the_words_of_the_input(pools: dict[str, Pool]) -> None:
    task, row = replace(pools["reverse"].task, metric=Metric.SARI), pools["reverse"].rows[0]
    expected = 100 * sari("a b", [row.target], str(row.input["words"]))
    assert task_estimate(task, [row], ["a b"], 0).value == pytest.approx(expected)


def test_retrievers_show_the_nearest_first_and_never_the_query_or_a_copy(reviews: Pool) -> None:
    copy = Row(id="other", input=reviews.rows[2].input, target="good")
    for name in ("random", "bm25"):
        for shown in open_retriever(name, 0).demonstrations(reviews, [reviews.rows[2], copy], 23):
            assert len(shown.rows) == 23 and reviews.rows[2].id not in {row.id for row in shown.rows}
    # BM25 knows no demonstration for unknown words, so some are drawn.
    queries = [Row(id="q", input={"text": text}, target="good") for text in ("train 7", "?")]
    nearest, unknown = open_retriever("bm25", 0).demonstrations(reviews, queries, 5)
    assert nearest.rows[0].input["text"] == "train 7 the sea is bad indeed"
    assert nearest.prompt(range(2)) == [nearest.rows[1], nearest.rows[0]]
    assert (len(nearest.rows), nearest.drawn) == (5, 0) and (len(unknown.rows), unknown.drawn) == (5, 5)


def test_all_kinds_of_tasks_and_retrievers_in_one_evaluation(
    tasks: Path, lm_folder: Path, encoder_folder: Path
) -> None:
    names = ("random", "bm25", str(encoder_folder), "oracle")
    config = EvaluationConfig(retrievers=names, shots=(2,), limit=3, pool=20, oracle_candidates=3)
    evaluation = evaluate(open_collection(tasks), CausalLM.load(str(lm_folder)), config)
    answer: dict[str, Any] = evaluation.to_json()
    assert [(mean["retriever"], mean["shots"]) for mean in answer["means"]] == [(name, 2) for name in names]
    assert [(value["task"], value["family"], value["retriever"]) for value in answer["tasks"]] == [
        (t, f, n) for t, f in (("colours", "choice"), ("reverse", "words"), ("reviews", "opinion")) for n in names
    ]
    for index, mean in enumerate(answer["means"]):
        own = [result.estimate for result in evaluation.results[index :: len(names)]]
        values = np.array([estimate.value for estimate in own])
        assert mean["mean"] == pytest.approx(values.mean(), abs=0.01)
        # MOVER: the distances to the ends add up as independent errors do.
        for end, side in enumerate(("low", "high")):
            ends = np.array([estimate.interval[end] for estimate in own])
            far = np.linalg.norm(ends - values) / len(own)
            assert far > 0 and abs(mean[side] - mean["mean"]) == pytest.approx(far, abs=0.02)


def test_values_repeat_and_do_not_depend_on_other_numbers_of_demonstrations(tasks: Path) -> None:
    collection, names = open_collection(tasks, ["reviews"]), ("random", "bm25")
    together, again = (
        evaluate(collection, CopyLM(), EvaluationConfig(retrievers=names, shots=(3, 1))) for _ in range(2)
    )
    assert together.to_json() == again.to_json() and together.main_shots == 3
    for shots in (1, 3):
        alone = evaluate(collection, CopyLM(), EvaluationConfig(retrievers=names, shots=(shots,)))
        for name in names:
            assert together.value(name, shots).value == alone.value(name, shots).value


def test_retrievers_share_the_answers_without_demonstrations(tasks: Path) -> None:
    lm = CopyLM()
    config = EvaluationConfig(retrievers=("random", "bm25", "oracle"), shots=(0,))
    gain = evaluate(open_collection(tasks, ["reviews"]), lm, config).gain("random", 0)
    assert (lm.asked, lm.scored) == (4, 0)
    assert (gain.value, *gain.interval) == (0, 0, 0)


def test_the_targets_of_a_pool_are_tokenised_once(tasks: Path) -> None:
    read = Counter[str]()

    class Counting(CopyLM):
        def tokens(self, text: str, *, start: bool = False) -> Any:
            read[text] += 1
            return super().tokens(text, start=start)

    collection, lm = open_collection(tasks, ["reverse"]), Counting()
    evaluate(collection, lm, EvaluationConfig(retrievers=("random", "bm25"), shots=(0, 2)), block=1)
    targets = [row.target for row in collection.tasks["reverse"].pool().rows]
    assert lm.asked == 4 * 3 and [read[target] for target in targets] == [1] * len(targets)


def test_errors_in_names_and_rows_come_before_the_first_answer(tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(tasks, tmp_path / "tasks")
    (tmp_path / "tasks" / "opinion" / "reviews" / "test.jsonl").unlink()
    (tmp_path / "config.toml").write_text("", "utf-8")
    cases: list[tuple[Path, str, type[UdrError], str]] = [
        (tasks, "./nowhere", ModelError, "no such file"),
        (tmp_path / "tasks", "random", DataError, r"needs one of test\.jsonl"),
        (tasks, str(tmp_path), ConfigError, "is an unfinished run"),
    ]
    lm = CopyLM()
    for folder, name, error, message in cases:
        with pytest.raises(error, match=message):
            evaluate(open_collection(folder), lm, EvaluationConfig(retrievers=(name,)))
    assert lm.asked == 0


def test_random_demonstrations_of_bm25_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[Any] = [{"id": str(n), "input": {"text": f"a fine day {n}"}, "target": "glad"} for n in range(8)]
    unknown: Any = {"id": "t1", "input": {"text": "hmm"}, "target": "sad"}
    known: Any = {"id": "t2", "input": {"text": "a fine night"}, "target": "glad"}
    write_task(tmp_path, NOTES, train=rows, test=[unknown, known])
    config = EvaluationConfig(retrievers=("random", "bm25"), shots=(4,))
    evaluation = evaluate(open_collection(tmp_path), CopyLM(), config)
    assert evaluation.config["random_share"] == {"bm25": {"notes": 0.5}}
    assert "task notes: 50.0 % of the demonstrations of bm25 are random" in caplog.text
    assert "- random in bm25: demonstrations that share no word with the query: notes 50.0 %" in markdown(evaluation)
