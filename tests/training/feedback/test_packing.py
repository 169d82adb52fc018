"""Packing: the layout of a pack, and which prompts share one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.feedback.forests import forests
from udr_training.feedback.packing import Prompt, pack, plan


def test_shared_parts_are_packed_once_without_last_tokens() -> None:
    first = Prompt(((1, 2), (3,), (4,)), ((5,), (6, 7)))
    second = Prompt(((1, 2), (3,), (8, 9)), ((5,),))
    packed = pack([first, second])
    assert packed.tokens.tolist() == [1, 2, 3, 4, 6, 8, 9]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 3, 4]
    # The second query (tokens 5 and 6) sees instruction and demonstration, not the first query or its option.
    seen = (packed.enter <= packed.enter[6]) & (packed.enter[6] < packed.leave)
    assert np.flatnonzero(seen).tolist() == [0, 1, 2, 5, 6]
    assert list(zip(packed.sources.tolist(), packed.targets.tolist(), strict=True)) == [(3, 5), (3, 6), (4, 7), (6, 5)]
    assert packed.paths == (((0,), (1, 2)), ((3,),))


def test_options_of_one_token_cost_no_input() -> None:
    few, many = (Prompt(((1,), (2,), (3,)), tuple((label,) for label in range(count))) for count in (2, 100))
    assert len(pack([few])) == len(pack([many])) == 3


@pytest.mark.parametrize(
    "prompt",
    [Prompt(((), ()), ((1,),)), Prompt(((1,),), ((),)), Prompt(((1,),), ())],
    ids=["no-token", "empty", "none"],
)
def test_prompt_without_tokens_or_options_is_refused(prompt: Prompt) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack([prompt])


@settings(max_examples=50)
@given(prompts=forests, budget=st.integers(4, 60))
def test_plan_has_every_prompt_once_within_the_budget(prompts: list[Prompt], budget: int) -> None:
    packs = plan(prompts, budget)
    assert sorted(itertools.chain(*packs)) == list(range(len(prompts)))
    for numbers in packs:
        assert len(numbers) == 1 or len(pack([prompts[number] for number in numbers])) <= budget


def _sizes(prompts: list[Prompt], budget: int) -> list[tuple[int, int]]:
    """Return the number of prompts and of tokens of each planned pack."""
    return [(len(numbers), len(pack([prompts[number] for number in numbers]))) for numbers in plan(prompts, budget)]


def test_small_groups_fill_packs_first_with_groups_of_the_same_root() -> None:
    # One instruction token, then three tokens per group: 16 tokens hold five groups.
    assert _sizes([Prompt(((0,), (number,), (1, 2)), ((3,),)) for number in range(30)], 16) == [(5, 16)] * 6
    # Two root tokens, then two per group: 8 tokens hold three groups of one root, 16 two such packs.
    prompts = [Prompt(((root, root), (number,), (1,)), ((3,),)) for root in range(4) for number in range(3)]
    assert _sizes(prompts, 8) == [(3, 8)] * 4
    assert _sizes(prompts, 16) == [(6, 16)] * 2


def test_large_group_is_split_evenly_and_repeats_its_root() -> None:
    # Two root tokens and ten prompts of three, 32 in all: 17 and 17 are less work than 26 and 8.
    assert _sizes([Prompt(((0,), (1,), (2, number, 4)), ((3,),)) for number in range(10)], 26) == [(5, 17)] * 2
    # Prompts larger than the budget get their own packs.
    assert _sizes([Prompt(((0,) * 9, (number,) * 9), ((3,),)) for number in range(3)], 8) == [(1, 18)] * 3
