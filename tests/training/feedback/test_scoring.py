"""From pairs to scores: how they are formed, and that nothing is computed twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.table_lm import TableLM
from udr.data import Kind, Normalise, Pool, formatting
from udr_training.feedback import (
    FeedbackStore,
    Pair,
    Progress,
    option_values,
    pair_prompt,
    prompt_of,
    score,
    score_pairs,
    scoring,
)
from udr_training.feedback.local import CausalLM
from udr_training.feedback.packing import Likelihoods


def store(path: Path, lm: str = "table", dtype: str = "float32", wording: str = "w") -> FeedbackStore:
    return FeedbackStore(path / "feedback.sqlite", lm, dtype, wording)


def pairs_of(pool: Pool, count: int) -> list[Pair]:
    return [Pair(pool.task, pool.rows[number % 5], pool.rows[5 + number]) for number in range(count)]


def test_classification_score_is_the_golds_share(pools: dict[str, Pool]) -> None:
    task = pools["reviews"].task
    values = option_values(task, Likelihoods(np.log([0.2, 0.6]), (1, 3)))
    assert score(task, values, gold=0) == pytest.approx(0.25)


def test_multiple_choice_compares_means_per_token_unless_told_otherwise(pools: dict[str, Pool]) -> None:
    task = pools["colours"].task
    likelihoods = Likelihoods(np.array([-4.0, -3.0]), (4, 1))
    assert option_values(task, likelihoods).tolist() == [-1.0, -3.0]
    summed = replace(task, normalise=Normalise.SUM)
    assert option_values(summed, likelihoods).tolist() == [-4.0, -3.0]


def test_generation_score_is_the_mean_log_likelihood_of_a_token(pools: dict[str, Pool]) -> None:
    task = pools["reverse"].task
    assert task.kind is Kind.GENERATION
    assert score(task, option_values(task, Likelihoods(np.array([-6.0]), (3,))), gold=0) == -2.0


def test_a_pair_in_context_scores_as_the_whole_prompt(tmp_path: Path, pools: dict[str, Pool], lm: CausalLM) -> None:
    pool = pools["reviews"]
    pairs = [Pair(pool.task, pool.rows[0], pool.rows[n], (pool.rows[9],)) for n in range(1, 6)]
    with store(tmp_path, lm.fingerprint) as opened:
        scores = score_pairs(lm, opened, pairs)
    for pair in pairs:
        whole = prompt_of(lm, pool.task, pair.query, [pool.rows[9], pair.demonstration])
        (alone,) = lm.likelihoods([whole])
        expected = score(pool.task, option_values(pool.task, alone), formatting.gold(pool.task, pair.query))
        assert scores[pair.query.id, pair.demonstration.id] == pytest.approx(expected, abs=1e-4)


def test_scores_are_stored_and_not_computed_again(tmp_path: Path, pools: dict[str, Pool]) -> None:
    lm, pairs = TableLM(), pairs_of(pools["reviews"], 10)
    with store(tmp_path) as opened:
        first = score_pairs(lm, opened, pairs)
    with store(tmp_path) as opened:
        assert len(opened) == 10
        assert score_pairs(lm, opened, pairs) == first
    assert lm.scored == 10


def test_a_killed_run_keeps_what_it_scored_and_computes_only_the_rest(tmp_path: Path, pools: dict[str, Pool]) -> None:
    pairs = pairs_of(pools["reviews"], 10)
    with store(tmp_path) as opened, pytest.raises(KeyboardInterrupt):
        score_pairs(TableLM(fail_after=4), opened, pairs)
    with store(tmp_path) as opened:
        lm = TableLM()
        resumed = score_pairs(lm, opened, pairs)
    assert lm.scored == 6
    with store(tmp_path / "other") as opened:
        assert score_pairs(TableLM(), opened, pairs) == resumed


def test_copies_under_other_ids_are_scored_once_and_all_have_a_score(tmp_path: Path, pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    query, one, other = pool.rows[0], pool.rows[5], replace(pool.rows[5], id="copy")
    asker = replace(query, id="asker")
    lm = TableLM()
    with store(tmp_path) as opened:
        scores = score_pairs(lm, opened, [Pair(pool.task, q, d) for q in (query, asker) for d in (one, other)])
    assert lm.scored == 1
    assert set(scores) == {(q, d) for q in (query.id, "asker") for d in (one.id, "copy")}
    assert len(set(scores.values())) == 1


def test_one_input_with_two_targets_is_scored_by_each(tmp_path: Path, pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    good, bad = (replace(pool.rows[0], id=target, target=target) for target in ("good", "bad"))
    with store(tmp_path) as opened:
        scores = score_pairs(TableLM(), opened, [Pair(pool.task, query, pool.rows[5]) for query in (good, bad)])
    assert scores["good", pool.rows[5].id] + scores["bad", pool.rows[5].id] == pytest.approx(1)


def test_progress_and_the_store_tell_what_was_scored(tmp_path: Path, pools: dict[str, Pool]) -> None:
    pairs, seen = pairs_of(pools["reviews"], 4), list[Progress]()
    prompts = [pair_prompt(TableLM(), pair) for pair in pairs]
    with store(tmp_path) as opened:
        score_pairs(TableLM(), opened, pairs, seen.append)
        work = opened.work
    assert [(progress.done, progress.total) for progress in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (work.pairs, work.cut) == (4, 0)
    assert seen[-1].tokens == work.tokens == sum(prompt.num_tokens for prompt in prompts)


def test_prompts_that_lost_text_are_counted_and_reported(
    tmp_path: Path, pools: dict[str, Pool], caplog: pytest.LogCaptureFixture
) -> None:
    pairs = pairs_of(pools["reviews"], 4)
    longest = max(pair_prompt(TableLM(), pair).length for pair in pairs)
    short = TableLM(context=longest - 3)
    lost = [pair_prompt(short, pair).lost for pair in pairs]
    with store(tmp_path) as opened:
        score_pairs(short, opened, pairs)
        assert opened.work.cut == sum(number > 0 for number in lost) > 0
    assert f"prompts were too long: demonstrations lost {sum(lost)} tokens" in caplog.text


def test_pairs_are_scored_in_blocks_as_all_at_once(
    tmp_path: Path, pools: dict[str, Pool], lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, seen = pairs_of(pools["reviews"], 10), list[Progress]()
    with store(tmp_path / "one", lm.fingerprint) as opened:
        whole = score_pairs(lm, opened, pairs)
    monkeypatch.setattr(scoring, "_BLOCK", 3)
    with store(tmp_path / "other", lm.fingerprint) as opened:
        assert score_pairs(lm, opened, pairs, seen.append) == pytest.approx(whole, abs=1e-5)
    assert (seen[-1].done, seen[-1].total) == (10, 10)
