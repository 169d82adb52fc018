"""Demonstrations stand where the order says, ties included, and in any process the same."""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.prompts import Order, alternate, arranged
from udr.retrieval import RetrievedDemonstration


def found(*similarities: float, targets: str = "") -> list[RetrievedDemonstration]:
    """Demonstrations in the order of choice, of these similarities and targets of one letter."""
    return [
        RetrievedDemonstration(
            id=f"d{n}", task="t", similarity=similarity, rank=n + 1, input={}, target=targets[n : n + 1], text=""
        )
        for n, similarity in enumerate(similarities)
    ]


def places(
    order: Order, demonstrations: Sequence[RetrievedDemonstration], query: str = "q", seed: int = 0
) -> list[int]:
    positions = range(len(demonstrations))
    return list(arranged(order, demonstrations, query, seed)(positions))


@pytest.mark.parametrize(
    ("order", "expected"), [(Order.NEAREST_LAST, [3, 1, 2, 0]), (Order.NEAREST_FIRST, [0, 2, 1, 3])]
)
def test_similarity_decides_whatever_the_order_of_choice(order: Order, expected: list[int]) -> None:
    assert places(order, found(0.9, 0.4, 0.7, 0.1)) == expected


@pytest.mark.parametrize(("order", "expected"), [(Order.NEAREST_LAST, [2, 1, 0]), (Order.NEAREST_FIRST, [0, 1, 2])])
def test_of_equals_the_best_rank_stands_nearest(order: Order, expected: list[int]) -> None:
    assert places(order, found(0.5, 0.5, 0.5)) == expected


@pytest.mark.parametrize(
    ("targets", "shown"),
    [
        ("aabb", [3, 1, 2, 0]),
        ("aaab", [2, 1, 3, 0]),
        ("abbb", [3, 2, 1, 0]),
        ("aaaa", [3, 2, 1, 0]),
        ("abcc", [3, 1, 2, 0]),
        ("abccc", [4, 3, 1, 2, 0]),
    ],
)
def test_targets_alternate_and_the_nearest_is_last(targets: str, shown: list[int]) -> None:
    demonstrations = found(*(1 - n / 10 for n in range(len(targets))), targets=targets)
    assert places(Order.ALTERNATE_LABELS, demonstrations) == shown


def equal_neighbours(order: Sequence[int], targets: Sequence[str]) -> int:
    return sum(targets[a] == targets[b] for a, b in pairwise(order))


@given(targets=st.text(alphabet="abcd", min_size=1, max_size=7))
def test_no_order_with_the_nearest_last_has_fewer_equal_neighbours(targets: str) -> None:
    nearest = range(len(targets))
    shown = alternate(nearest, targets)
    fewest = min(equal_neighbours((*rest, 0), targets) for rest in permutations(nearest[1:]))
    assert shown[-1] == 0 and sorted(shown) == list(nearest)
    assert equal_neighbours(shown, targets) == fewest


def test_a_shuffle_depends_on_seed_and_query_alone() -> None:
    demonstrations = found(*(1 - n / 100 for n in range(20)))
    first = places(Order.SHUFFLE, demonstrations)
    assert sorted(first) == list(range(20)) != first
    assert places(Order.SHUFFLE, demonstrations) == first
    assert places(Order.SHUFFLE, demonstrations, seed=1) != first
    assert places(Order.SHUFFLE, demonstrations, query="other") != first


@pytest.mark.parametrize("order", Order)
@given(similarities=st.lists(st.sampled_from([0.1, 0.5, 0.9]), max_size=9), targets=st.text("ab", min_size=9))
def test_the_order_of_positions_that_are_given_has_no_say(
    order: Order, similarities: list[float], targets: str
) -> None:
    arrange = arranged(order, found(*similarities, targets=targets), "q", 3)
    positions = list(range(len(similarities)))
    assert sorted(arrange(positions)) == positions
    assert arrange(positions[::-1]) == arrange(positions)


def test_every_process_arranges_alike() -> None:
    code = (
        "from tests.udr.prompts.test_ordering import found, places; from udr.prompts import Order;"
        "d = found(.9, .9, .5, .5, .5, .2, .1, .1, targets='aababbba');"
        "print([places(order, d, 'a query', 7) for order in Order])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
        ).stdout
        for seed in ("0", "1", "2")
    }
    d = found(0.9, 0.9, 0.5, 0.5, 0.5, 0.2, 0.1, 0.1, targets="aababbba")
    assert said == {f"{[places(order, d, 'a query', 7) for order in Order]}\n"}
