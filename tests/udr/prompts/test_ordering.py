"""Orders of demonstrations, ties included."""

from collections.abc import Sequence
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.prompts import Order, alternate, arranged
from udr.retrieval import RetrievedDemonstration


def demonstrations(similarities: Sequence[float], targets: str = "") -> list[RetrievedDemonstration]:
    """Demonstrations in the order of choice, with targets of one letter."""
    return [
        RetrievedDemonstration(
            id=f"d{n}", task="t", similarity=similarity, rank=n + 1, input={}, target=targets[n : n + 1], text=""
        )
        for n, similarity in enumerate(similarities)
    ]


@pytest.mark.parametrize(
    ("similarities", "nearest"), [((0.9, 0.4, 0.7, 0.1), [0, 2, 1, 3]), ((0.5, 0.5, 0.5), [0, 1, 2])]
)
def test_nearest_is_by_similarity_then_by_rank(similarities: Sequence[float], nearest: list[int]) -> None:
    positions, shown = range(len(similarities)), demonstrations(similarities)
    assert arranged(Order.NEAREST_FIRST, shown, "q", 0)(positions) == nearest
    assert arranged(Order.NEAREST_LAST, shown, "q", 0)(positions) == nearest[::-1]


@pytest.mark.parametrize(
    ("targets", "shown"),
    [("aabb", [3, 1, 2, 0]), ("aaab", [2, 1, 3, 0]), ("abcc", [3, 1, 2, 0]), ("abccc", [4, 3, 1, 2, 0])],
)
def test_targets_alternate_with_the_nearest_last(targets: str, shown: list[int]) -> None:
    assert alternate(range(len(targets)), targets) == shown


def equal_neighbours(order: Sequence[int], targets: Sequence[str]) -> int:
    return sum(targets[a] == targets[b] for a, b in pairwise(order))


@given(targets=st.text(alphabet="abcd", min_size=1, max_size=6))
def test_no_order_with_the_nearest_last_has_fewer_equal_neighbours(targets: str) -> None:
    nearest = range(len(targets))
    shown = alternate(nearest, targets)
    fewest = min(equal_neighbours((*rest, 0), targets) for rest in permutations(nearest[1:]))
    assert shown[-1] == 0 and sorted(shown) == list(nearest)
    assert equal_neighbours(shown, targets) == fewest


def test_a_shuffle_depends_only_on_seed_and_query() -> None:
    shown = demonstrations([1 - n / 100 for n in range(20)])
    orders = [
        list(arranged(Order.SHUFFLE, shown, query, seed)(range(20)))
        for query, seed in (("q", 0), ("q", 0), ("q", 1), ("other", 0))
    ]
    assert sorted(orders[0]) == list(range(20)) != orders[0]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


@pytest.mark.parametrize("order", Order)
@given(similarities=st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=9), targets=st.text("ab", min_size=9))
def test_an_order_does_not_depend_on_that_of_its_input(order: Order, similarities: list[float], targets: str) -> None:
    arrange = arranged(order, demonstrations(similarities, targets), "q", 3)
    positions = list(range(len(similarities)))
    assert sorted(arrange(positions)) == positions
    assert arrange(positions[::-1]) == arrange(positions)
