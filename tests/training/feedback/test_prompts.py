"""Prompts: the model reads the wording exactly, and only demonstrations' inputs are cut."""

from dataclasses import replace

import pytest

from tests.training.table_lm import TableLM
from udr.data import Pool, Task, formatting
from udr.errors import FeedbackError
from udr.types import Row
from udr_training.feedback import Pair, cut_longest, pair_keys, pair_prompt, prompt_of
from udr_training.feedback.local import CausalLM


def test_model_reads_exactly_the_wording(reviews: Pool, lm: CausalLM) -> None:
    task, query, demonstration = reviews.task, *reviews.rows[:2]
    prompt = prompt_of(lm, task, query, [demonstration])
    bos, *read = prompt.context
    shown = [formatting.demonstration_text(task, demonstration)]
    expected = formatting.prompt(task.instruction, shown, formatting.query_prompt(task, query.input))
    assert bos == 0
    assert lm.tokenizer.text(tuple(read)) == expected == Pair(task, query, demonstration).text().before_options
    assert [lm.tokenizer.text(option) for option in prompt.options] == [" good", " bad"]


def test_context_is_packed_with_the_instruction_and_part_of_the_key(reviews: Pool, lm: CausalLM) -> None:
    query, context, demonstration = reviews.rows[:3]
    pair = Pair(reviews.task, query, demonstration)
    plain = prompt_of(lm, reviews.task, query, [context, demonstration])
    common = pair_prompt(lm, replace(pair, context=(context,)))
    assert common.parts == (plain.parts[0] + plain.parts[1], *plain.parts[2:]) and common.options == plain.options
    assert len(set(pair_keys([pair, *(replace(pair, context=(row,)) for row in (context, demonstration))]))) == 3


def test_the_keys_of_pairs_take_one_rendering_of_each_query(reviews: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, options = list[str](), formatting.options

    def counted(task: Task, row: Row) -> tuple[str, ...]:
        asked.append(row.id)
        return options(task, row)

    monkeypatch.setattr(formatting, "options", counted)
    queries, shown = reviews.rows[:2], reviews.rows[2:6]
    keys = pair_keys([Pair(reviews.task, query, row) for query in queries for row in shown])
    assert len(set(keys)) == 8 and asked == [query.id for query in queries]


def test_special_tokens_in_data_are_ordinary_text(lm: CausalLM) -> None:
    assert lm.tokens("</s>") == tuple(token for letter in "</s>" for token in lm.tokens(letter))


def test_long_prompt_loses_only_the_demonstrations_input(reviews: Pool) -> None:
    whole = prompt_of(TableLM(), reviews.task, reviews.rows[0], [reviews.rows[1]])
    cut = prompt_of(TableLM(context=whole.length - 10), reviews.task, reviews.rows[0], [reviews.rows[1]])
    assert (whole.lost, cut.lost, cut.length) == (0, 10, whole.length - 10)
    assert (cut.parts[0], cut.parts[2], cut.options) == (whole.parts[0], whole.parts[2], whole.options)
    output = "\n" + formatting.output_text(reviews.task, reviews.rows[1].target) + formatting.SEPARATOR
    assert cut.parts[1][-len(output) :] == tuple(map(ord, output))
    with pytest.raises(
        FeedbackError, match=rf"task 'reviews', row '{reviews.rows[0].id}': the prompt needs \d+ tokens"
    ):
        prompt_of(TableLM(context=40), reviews.task, reviews.rows[0], [reviews.rows[1]])


def test_a_demonstration_whose_target_is_too_long_is_named(pools: dict[str, Pool]) -> None:
    task, (query, other, long, *_) = pools["reverse"].task, pools["reverse"].rows
    long = replace(long, target="x" * 500)
    with pytest.raises(FeedbackError, match=rf"shorten row '{long.id}', a demonstration whose target needs 513 tokens"):
        prompt_of(TableLM(context=400), task, query, [long, other])
    with pytest.raises(FeedbackError, match=r"window is 400; shorten the row or remove it"):
        prompt_of(TableLM(context=400), task, replace(query, target="x" * 500), [other])


@pytest.mark.parametrize(("room", "lengths"), [(11, [4, 3, 4]), (19, [10, 3, 6]), (-5, [0, 0, 0])])
def test_longest_texts_are_cut_first(room: int, lengths: list[int]) -> None:
    assert list(map(len, cut_longest([(1,) * 10, (2,) * 3, (3,) * 6], room))) == lengths


def test_context_is_cut_alike_before_all_candidates(reviews: Pool) -> None:
    query, context = reviews.rows[0], replace(reviews.rows[1], input={"text": "c" * 150})
    prompts = [
        pair_prompt(TableLM(context=320), Pair(reviews.task, query, candidate, (context,)))
        for candidate in (replace(reviews.rows[2], input={"text": "z" * length}) for length in (10, 80, 200))
    ]
    assert len({prompt.parts[0] for prompt in prompts}) == 1
    assert prompts[0].parts[0].count(ord("c")) > 20
    assert all(prompt.lost > 0 and prompt.length <= 320 for prompt in prompts)
    assert prompts[0].parts[1].count(ord("z")) == 10
