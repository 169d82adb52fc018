"""Which prompts share a pack: every one once, packs full, none over the budget."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.training.forests import forests
from udr_training.feedback.packing import Prompt, pack, plan


@given(prompts=forests, budget=st.integers(4, 60))
def test_plan_takes_every_prompt_once_and_keeps_the_budget(prompts: list[Prompt], budget: int) -> None:
    packs = plan(prompts, budget)
    assert sorted(itertools.chain(*packs)) == list(range(len(prompts)))
    for numbers in packs:
        size = len(pack([prompts[number] for number in numbers]))
        assert size <= budget or len(numbers) == 1


def test_plan_fills_packs_with_small_groups() -> None:
    prompts = [Prompt(((0,), (number,), (1, 2)), ((3,),)) for number in range(30)]
    # One instruction token, then three tokens a group: 16 tokens hold five groups.
    assert [len(numbers) for numbers in plan(prompts, 16)] == [5] * 6


def test_plan_fills_packs_with_groups_of_unlike_roots() -> None:
    prompts = [Prompt(((root, root), (number,), (1,)), ((3,),)) for root in range(4) for number in range(3)]
    # Two root tokens, then two a group: 8 tokens hold three groups of one root, 16 two such packs.
    assert [len(numbers) for numbers in plan(prompts, 8)] == [3] * 4
    assert [len(numbers) for numbers in plan(prompts, 16)] == [6] * 2


def test_a_group_larger_than_the_budget_is_split_and_its_root_repeated() -> None:
    prompts = [Prompt(((0,), (1, 1, 1), (2, number)), ((3,),)) for number in range(10)]
    packs = plan(prompts, 12)
    assert len(packs) == 3 and all(len(pack([prompts[n] for n in numbers])) <= 12 for numbers in packs)


def test_a_group_is_split_evenly() -> None:
    # Two root tokens and ten prompts of three: 32 in all, which 26 do not hold; 17 and 17 are less work than 26 and 8.
    prompts = [Prompt(((0,), (1,), (2, number, 4)), ((3,),)) for number in range(10)]
    packs = [pack([prompts[number] for number in numbers]) for numbers in plan(prompts, 26)]
    assert [len(packed) for packed in packs] == [17, 17]


def test_a_group_of_prompts_larger_than_the_budget_is_split_one_by_one() -> None:
    prompts = [Prompt(((0,) * 9, (number,) * 9), ((3,),)) for number in range(3)]
    assert sorted(plan(prompts, 8)) == [[0], [1], [2]]
