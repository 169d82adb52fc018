"""Near-duplicates by words: the same as comparing all pairs."""

import random
import time
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.search import OVERLAP, overlapping
from udr_index.splitting import group

WORDS = "river lake harbour island valley castle bridge".split()


def shared(one: str, other: str) -> float:
    """The oracle: Jaccard of words and neighbours."""
    first, second = ({*text.split(), *map(" ".join, pairwise(text.split()))} for text in (one, other))
    return len(first & second) / len(first | second)


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join), max_size=30),
    st.sampled_from([0.3, 0.5, OVERLAP, 0.8, 1.0]),
)
def test_pairs_are_those_of_comparing_all(texts: list[str], least: float) -> None:
    pairs = list(overlapping(texts, least))

    assert all(one < other and shared(texts[one], texts[other]) >= least - 1e-9 for one, other in pairs)
    # Each pair joins two groups, so the groups are compared.
    assert len(pairs) == len(texts) - len(group(len(texts), pairs))
    expected = [
        pair for pair in combinations(range(len(texts)), 2) if shared(*(texts[n] for n in pair)) >= least - 1e-9
    ]
    assert group(len(texts), pairs) == group(len(texts), expected)


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join), max_size=30))
def test_pairs_without_chains_join_to_what_stands_alone(texts: list[str]) -> None:
    alone: list[int] = []
    expected: dict[int, list[int]] = {}
    for position, text in enumerate(texts):
        near = [one for one in alone if shared(texts[one], text) >= 0.5 - 1e-9]
        if near:
            expected[position] = near
        else:
            alone.append(position)
    pairs = list(overlapping(texts, 0.5, chained=False))
    assert {later for _, later in pairs} == expected.keys()
    assert all(one in expected[later] for one, later in pairs)


def alarms(number: int, names: int, minutes: int) -> list[str]:
    """Texts of one template, which differ in about half of what they share."""
    draw = random.Random(0)
    return [
        f"please set an alarm for name{draw.randrange(names)} at {draw.randrange(24)}:{draw.randrange(minutes):02d} in "
        f"the {draw.choice(['kitchen', 'hall', 'office'])}{' now' * draw.randrange(3)}"
        for _ in range(number)
    ]


def test_texts_of_one_template_are_compared_as_if_with_all() -> None:
    texts = alarms(400, 20, 3)
    sets = [{*words, *map(" ".join, pairwise(words))} for text in texts for words in [text.replace(":", " ").split()]]
    near = [
        (one, other)
        for one, other in combinations(range(len(texts)), 2)
        if len(sets[one] & sets[other]) >= OVERLAP * len(sets[one] | sets[other]) - 1e-9
    ]
    assert group(len(texts), overlapping(texts)) == group(len(texts), near)
    earlier: dict[int, set[int]] = {}
    for one, other in near:
        if one not in earlier:
            earlier.setdefault(other, set()).add(one)
    pairs = list(overlapping(texts, chained=False))
    assert {other for _, other in pairs} == earlier.keys() and all(one in earlier[other] for one, other in pairs)


def test_texts_of_one_template_take_about_linear_time() -> None:
    texts = alarms(6000, 3000, 60)
    start = time.thread_time()
    assert len(list(overlapping(texts))) > 1000
    # Comparing those that share one of the rarest words takes about 3 seconds.
    assert time.thread_time() - start < 1.5


def test_texts_of_other_words_or_another_order_are_apart() -> None:
    texts = ["the card was charged twice for one order", "twice one card was order for the charged", "", "!?", "!?"]
    assert list(overlapping(texts)) == []
    assert list(overlapping(["My Card was charged!", "my card was CHARGED"])) == [(0, 1)]


@pytest.mark.parametrize(("changed", "near"), [(1, True), (2, True), (5, False)])
def test_a_text_with_few_other_words_is_near(changed: int, near: bool) -> None:
    words = [f"w{n}" for n in range(20)]
    other = list(words)
    for position in random.Random(0).sample(range(20), changed):
        other[position] = f"x{position}"
    assert bool(list(overlapping([" ".join(words), " ".join(other)]))) is near


def test_groups_join_what_pairs_join() -> None:
    assert group(6, [(4, 1), (3, 5), (1, 3)]) == [[0], [1, 3, 4, 5], [2]]
