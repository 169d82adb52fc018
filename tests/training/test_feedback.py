"""Scores: how they are formed, what the language model reads, and that nothing is computed twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from udr import text
from udr.errors import ConfigError, FeedbackError, ModelError
from udr.pool import Pool
from udr.tasks import Kind, Normalise
from udr_training.feedback.causal_lm import CausalLM
from udr_training.feedback.packing import Prompt
from udr_training.feedback.scoring import Pair, cut_longest, option_values, prompt_of, score, score_pairs
from udr_training.feedback.store import FeedbackStore, PairKey


class TableLM:
    """A language model of characters: an option's log-likelihood is minus its length, times the first token."""

    fingerprint, dtype = "table", "float32"

    def __init__(self, context: int = 10_000, fail_after: int | None = None) -> None:
        self.context, self.scored, self._fail_after = context, 0, fail_after

    def tokens(self, text: str, *, start: bool = False) -> tuple[int, ...]:
        return (*((0,) if start else ()), *map(ord, text))

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [[number] for number in range(len(prompts))]

    def score(self, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        if self._fail_after is not None and self.scored >= self._fail_after:
            raise KeyboardInterrupt
        self.scored += len(prompts)
        return [
            np.array([-len(option) * 0.1 - len(prompt.parts[1]) * 0.01 for option in prompt.options])
            for prompt in prompts
        ]


def store(path: Path, lm: str = "table", dtype: str = "float32", wording: str = "w") -> FeedbackStore:
    return FeedbackStore(path / "feedback.sqlite", lm, dtype, wording)


def pairs_of(pool: Pool, count: int) -> list[Pair]:
    return [Pair(pool.task, pool.rows[number % 5], pool.rows[5 + number]) for number in range(count)]


def test_classification_score_is_the_golds_share(pools: dict[str, Pool]) -> None:
    task = pools["reviews"].task
    values = option_values(task, np.log([0.2, 0.6]), [1, 3])
    assert score(task, values, gold=0) == pytest.approx(0.25)


def test_multiple_choice_compares_means_per_token_unless_told_otherwise(pools: dict[str, Pool]) -> None:
    task = pools["colours"].task
    assert option_values(task, np.array([-4.0, -3.0]), [4, 1]).tolist() == [-1.0, -3.0]
    summed = replace(task, normalise=Normalise.SUM)
    assert option_values(summed, np.array([-4.0, -3.0]), [4, 1]).tolist() == [-4.0, -3.0]


def test_generation_score_is_the_mean_log_likelihood_of_a_token(pools: dict[str, Pool]) -> None:
    task = pools["reverse"].task
    assert task.kind is Kind.GENERATION
    assert score(task, option_values(task, np.array([-6.0]), [3]), gold=0) == -2.0


def test_the_model_reads_exactly_the_wording(pools: dict[str, Pool], lm: CausalLM) -> None:
    pool = pools["reviews"]
    prompt = prompt_of(lm, pool.task, pool.rows[0], [pool.rows[1]])
    bos, *read = [token for part in prompt.parts for token in part]
    expected = text.prompt(
        pool.task.instruction,
        [text.demonstration_text(pool.task, pool.rows[1])],
        text.query_prompt(pool.task, pool.rows[0].input),
    )
    assert bos == 0
    assert lm._tokenizer.decode(read) == expected
    assert [lm._tokenizer.decode(option) for option in prompt.options] == [" good", " bad"]


def test_a_context_stands_before_the_candidate_and_is_packed_with_the_instruction(
    pools: dict[str, Pool], lm: CausalLM
) -> None:
    pool = pools["reviews"]
    query, context, demonstration = pool.rows[:3]
    plain = prompt_of(lm, pool.task, query, [context, demonstration])
    common = prompt_of(lm, pool.task, query, [context, demonstration], num_common=1)
    assert common.parts == (plain.parts[0] + plain.parts[1], *plain.parts[2:]) and common.options == plain.options
    pair = Pair(pool.task, query, demonstration)
    keys = {pair.key, replace(pair, context=(context,)).key, replace(pair, context=(demonstration,)).key}
    assert len(keys) == 3


def test_a_pair_in_context_scores_as_the_whole_prompt(tmp_path: Path, pools: dict[str, Pool], lm: CausalLM) -> None:
    pool = pools["reviews"]
    pairs = [Pair(pool.task, pool.rows[0], pool.rows[n], (pool.rows[9],)) for n in range(1, 6)]
    with store(tmp_path, lm.fingerprint) as opened:
        scores = score_pairs(lm, opened, pairs)
    for pair in pairs:
        whole = prompt_of(lm, pool.task, pair.query, [pool.rows[9], pair.demonstration])
        (alone,) = lm.log_likelihoods([whole])
        expected = score(pool.task, option_values(pool.task, alone, [1, 1]), text.gold(pool.task, pair.query))
        assert scores[pair.query.id, pair.demonstration.id] == pytest.approx(expected, abs=1e-4)


def test_special_tokens_in_data_are_ordinary_text(lm: CausalLM) -> None:
    assert lm.tokens("</s>") == tuple(lm.tokens("<")[0:1] + lm.tokens("/") + lm.tokens("s") + lm.tokens(">"))


def test_a_prompt_too_long_for_the_model_loses_the_demonstrations_input_only(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    whole = prompt_of(TableLM(), pool.task, pool.rows[0], [pool.rows[1]])
    cut = prompt_of(TableLM(context=whole.length - 10), pool.task, pool.rows[0], [pool.rows[1]])
    assert cut.length == whole.length - 10
    assert (cut.parts[0], cut.parts[2], cut.options) == (whole.parts[0], whole.parts[2], whole.options)
    output = "\n" + text.output_text(pool.task, pool.rows[1].target) + text.SEPARATOR
    assert cut.parts[1][-len(output) :] == tuple(map(ord, output))


def test_the_longest_texts_are_cut_first() -> None:
    texts = [(1,) * 10, (2,) * 3, (3,) * 6]
    assert [len(part) for part in cut_longest(texts, 11)] == [4, 3, 4]
    assert cut_longest(texts, 19) == texts
    assert cut_longest(texts, -5) == [(), (), ()]


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


def test_a_prompt_that_cannot_be_cut_enough_is_refused_by_name(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    with pytest.raises(FeedbackError, match=rf"task 'reviews', row '{pool.rows[0].id}': the prompt needs \d+ tokens"):
        prompt_of(TableLM(context=40), pool.task, pool.rows[0], [pool.rows[1]])


@pytest.mark.parametrize("other", [{"lm": "another"}, {"dtype": "bfloat16"}, {"wording": "v"}], ids=str)
def test_another_models_dtypes_or_wordings_scores_are_never_read(
    tmp_path: Path, pools: dict[str, Pool], other: dict[str, str]
) -> None:
    pairs = pairs_of(pools["reviews"], 3)
    with store(tmp_path) as opened:
        score_pairs(TableLM(), opened, pairs)
    with store(tmp_path, **other) as opened:
        assert len(opened) == 0
        assert opened.get([pair.key for pair in pairs]) == {}


def test_keys_tell_texts_apart_that_join_alike() -> None:
    assert PairKey.of(("ab", "c"), "q", ()) != PairKey.of(("a", "bc"), "q", ())
    assert PairKey.of(("a",), "q", ("x", "y")) != PairKey.of(("a",), "q", ("xy",))


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").mkdir()
    with pytest.raises(FeedbackError, match="not a feedback store"):
        store(tmp_path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite").write_text("these are not scores, but a text that is long enough" * 50)
    with pytest.raises(FeedbackError, match="not a feedback store"):
        store(tmp_path)


def test_a_name_that_leads_to_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        CausalLM.load(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="no causal language model"):
        CausalLM.load(str(tmp_path))


def test_an_unknown_dtype_or_device_is_refused(lm_folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown dtype 'float8'; there are float32, bfloat16, float16"):
        CausalLM.load(str(lm_folder), dtype="float8")
    with pytest.raises(ConfigError, match="device 'nowhere' cannot be used"):
        CausalLM.load(str(lm_folder), device="nowhere")


def test_greedy_text_is_the_likeliest_token_each_time_and_ends_at_the_stop_text(lm: CausalLM) -> None:
    prompt = lm.tokens("Words: a b", start=True)
    expected: list[int] = []
    with torch.inference_mode():
        for _ in range(6):
            logits = lm._model(input_ids=torch.tensor([[*prompt, *expected]])).logits
            expected.append(int(logits[0, -1].argmax()))
    whole = lm._tokenizer.decode(expected)
    (answer,) = lm.generate([prompt], ["no such text"], 6)
    assert answer == whole.lstrip("\n").strip() and len(answer) > 2
    assert lm.generate([prompt], [answer[2]], 6) == [answer.partition(answer[2])[0].strip()]
