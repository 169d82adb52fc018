"""What the language model reads of a pair."""

from dataclasses import replace

import pytest

from tests.training.table_lm import TableLM
from udr.data import Pool, formatting
from udr.errors import FeedbackError
from udr_training.feedback import Pair, cut_longest, prompt_of
from udr_training.feedback.local import CausalLM


def test_the_model_reads_exactly_the_wording(pools: dict[str, Pool], lm: CausalLM) -> None:
    pool = pools["reviews"]
    prompt = prompt_of(lm, pool.task, pool.rows[0], [pool.rows[1]])
    bos, *read = [token for part in prompt.parts for token in part]
    expected = formatting.prompt(
        pool.task.instruction,
        [formatting.demonstration_text(pool.task, pool.rows[1])],
        formatting.query_prompt(pool.task, pool.rows[0].input),
    )
    assert bos == 0
    assert lm._words.text(tuple(read)) == expected
    assert [lm._words.text(option) for option in prompt.options] == [" good", " bad"]


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


def test_special_tokens_in_data_are_ordinary_text(lm: CausalLM) -> None:
    assert lm.tokens("</s>") == tuple(lm.tokens("<")[0:1] + lm.tokens("/") + lm.tokens("s") + lm.tokens(">"))


def test_a_prompt_too_long_for_the_model_loses_the_demonstrations_input_only(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    whole = prompt_of(TableLM(), pool.task, pool.rows[0], [pool.rows[1]])
    cut = prompt_of(TableLM(context=whole.length - 10), pool.task, pool.rows[0], [pool.rows[1]])
    assert cut.length == whole.length - 10
    assert (whole.lost, cut.lost) == (0, 10)
    assert (cut.parts[0], cut.parts[2], cut.options) == (whole.parts[0], whole.parts[2], whole.options)
    output = "\n" + formatting.output_text(pool.task, pool.rows[1].target) + formatting.SEPARATOR
    assert cut.parts[1][-len(output) :] == tuple(map(ord, output))


def test_the_longest_texts_are_cut_first() -> None:
    texts = [(1,) * 10, (2,) * 3, (3,) * 6]
    assert [len(part) for part in cut_longest(texts, 11)] == [4, 3, 4]
    assert cut_longest(texts, 19) == texts
    assert cut_longest(texts, -5) == [(), (), ()]


def test_a_prompt_that_cannot_be_cut_enough_is_refused_by_name(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    with pytest.raises(FeedbackError, match=rf"task 'reviews', row '{pool.rows[0].id}': the prompt needs \d+ tokens"):
        prompt_of(TableLM(context=40), pool.task, pool.rows[0], [pool.rows[1]])


def test_a_context_is_cut_alike_whatever_candidate_follows_it(pools: dict[str, Pool]) -> None:
    pool = pools["reviews"]
    query, context = pool.rows[0], replace(pool.rows[1], input={"text": "c" * 150})
    candidates = [replace(pool.rows[2], input={"text": "z" * length}) for length in (10, 80, 200)]
    prompts = [
        prompt_of(TableLM(context=320), pool.task, query, [context, candidate], num_common=1)
        for candidate in candidates
    ]
    assert len({prompt.parts[0] for prompt in prompts}) == 1
    assert prompts[0].parts[0].count(ord("c")) > 20
    assert [prompt.lost > 0 for prompt in prompts] == [True, True, True]
    assert [prompt.parts[1].count(ord("z")) for prompt in prompts[:1]] == [10]
    assert all(prompt.length <= 320 for prompt in prompts)
