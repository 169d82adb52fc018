"""From pairs to scores: how they are computed, and that none is computed twice."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.table_lm import TableLM
from udr.data import Normalise, Pool, formatting
from udr_training import feedback
from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Likelihoods, Prompt


def open_store(folder: Path, lm: str = "table") -> feedback.FeedbackStore:
    return feedback.FeedbackStore(folder / "feedback.sqlite", lm, "float32", "w")


@pytest.fixture
def pairs(reviews: Pool) -> list[feedback.Pair]:
    return [feedback.Pair(reviews.task, reviews.rows[number % 5], reviews.rows[5 + number]) for number in range(10)]


@pytest.mark.parametrize(
    ("task", "normalise", "sums", "num_tokens", "values", "expected"),
    [
        ("reviews", None, np.log([0.2, 0.6]), (1, 3), np.log([0.2, 0.6]), 0.25),
        ("colours", None, [-4.0, -3.0], (4, 1), [-1.0, -3.0], 1 / (1 + np.exp(-2))),
        ("colours", Normalise.SUM, [-4.0, -3.0], (4, 1), [-4.0, -3.0], 1 / (1 + np.exp(1))),
        ("reverse", None, [-6.0], (3,), [-2.0], -2.0),
    ],
)
def test_score_is_the_golds_share_or_the_mean_log_likelihood_of_a_generated_token(
    pools: dict[str, Pool],
    task: str,
    normalise: Normalise | None,
    sums: list[float],
    num_tokens: tuple[int, ...],
    values: list[float],
    expected: float,
) -> None:
    configured = replace(pools[task].task, normalise=normalise)
    compared = feedback.option_values(configured, Likelihoods(np.array(sums), num_tokens))
    assert compared.tolist() == pytest.approx(list(values))
    assert feedback.score(configured, compared, gold=0) == pytest.approx(expected)


def test_pair_in_context_scores_as_the_whole_prompt(tmp_path: Path, reviews: Pool, lm: CausalLM) -> None:
    pairs = [feedback.Pair(reviews.task, reviews.rows[0], row, (reviews.rows[9],)) for row in reviews.rows[1:6]]
    with open_store(tmp_path, lm.fingerprint) as store:
        scores = feedback.score_pairs(lm, store, pairs)
    for pair in pairs:
        (alone,) = lm.likelihoods(
            [feedback.prompt_of(lm, reviews.task, pair.query, [reviews.rows[9], pair.demonstration])]
        )
        expected = feedback.score(
            reviews.task, feedback.option_values(reviews.task, alone), formatting.gold(reviews.task, pair.query)
        )
        assert scores[pair.query.id, pair.demonstration.id] == pytest.approx(expected, abs=1e-4)


def test_interrupted_scoring_keeps_its_scores_and_computes_only_the_rest(
    tmp_path: Path, pairs: list[feedback.Pair]
) -> None:
    with open_store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        feedback.score_pairs(TableLM(fail_after=4), store, pairs)
    lm = TableLM()
    with open_store(tmp_path) as store:
        resumed = feedback.score_pairs(lm, store, pairs)
        assert feedback.score_pairs(lm, store, pairs) == resumed
        assert (lm.scored, len(store)) == (6, 10)
    with open_store(tmp_path / "other") as store:
        assert feedback.score_pairs(TableLM(), store, pairs) == resumed


def test_runs_that_share_a_file_score_few_pairs_twice(tmp_path: Path, reviews: Pool) -> None:
    class SlowLM(TableLM):
        def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
            time.sleep(0.002)
            return super().score(prompts)

    pairs = [feedback.Pair(reviews.task, reviews.rows[0], row) for row in reviews.rows[1:]]
    pairs += [feedback.Pair(reviews.task, reviews.rows[1], row) for row in reviews.rows[2:]]

    def run(_: int) -> int:
        lm = SlowLM()
        with open_store(tmp_path) as store:
            feedback.score_pairs(lm, store, pairs)
        return lm.scored

    with ThreadPoolExecutor() as pool:
        assert len(pairs) <= sum(pool.map(run, range(2))) < 1.6 * len(pairs)


def test_copies_with_other_ids_are_scored_once_and_each_target_of_an_input(tmp_path: Path, reviews: Pool) -> None:
    queries, demonstrations = ([row, replace(row, id=f"copy-{row.id}")] for row in (reviews.rows[0], reviews.rows[5]))
    lm = TableLM()
    with open_store(tmp_path) as store:
        scores = feedback.score_pairs(
            lm, store, [feedback.Pair(reviews.task, q, d) for q in queries for d in demonstrations]
        )
    assert lm.scored == 1
    assert set(scores) == {(q.id, d.id) for q in queries for d in demonstrations}
    assert len(set(scores.values())) == 1
    queries = [replace(reviews.rows[0], id=target, target=target) for target in ("good", "bad")]
    with open_store(tmp_path) as store:
        scores = feedback.score_pairs(
            TableLM(), store, [feedback.Pair(reviews.task, query, reviews.rows[5]) for query in queries]
        )
    assert sum(scores.values()) == pytest.approx(1)


def test_progress_and_store_count_pairs_tokens_and_truncated_prompts(
    tmp_path: Path, pairs: list[feedback.Pair], caplog: pytest.LogCaptureFixture
) -> None:
    seen = list[feedback.Progress]()
    longest = max(feedback.pair_prompt(TableLM(), pair).length for pair in pairs)
    lm = TableLM(context=longest - 3)
    prompts = [feedback.pair_prompt(lm, pair) for pair in pairs]
    with open_store(tmp_path) as store:
        feedback.score_pairs(lm, store, pairs, seen.append)
        work = store.work
    assert [(progress.done, progress.total) for progress in seen] == [(number, 10) for number in range(1, 11)]
    assert seen[-1].tokens == work.tokens == sum(prompt.num_tokens for prompt in prompts)
    assert (work.pairs, work.cut) == (10, sum(prompt.lost > 0 for prompt in prompts))
    lost = sum(prompt.lost for prompt in prompts)
    assert lost > 0 and f"prompts were too long; {lost} tokens" in caplog.text


def test_blocks_give_the_same_scores(tmp_path: Path, pairs: list[feedback.Pair], lm: CausalLM) -> None:
    scores = []
    for block in (3, 5_000):
        with open_store(tmp_path / str(block), lm.fingerprint) as store:
            scores.append(feedback.score_pairs(lm, store, pairs, block=block))
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
