"""The estimate of what a plan costs: its order, and its bounds."""

from typing import Any

from tests.udr.retrieval.conftest import OpenPools, note
from udr.retrieval import RetrievalRequest, Retriever


def cost(retriever: Retriever, text: str = "a dull day", **options: Any) -> int:
    scope = options.pop("scope", None)
    task = None if scope else "notes"
    return retriever.plan(RetrievalRequest(**{"input": text, "task": task, "scope": scope, "k": 8, **options})).cost


def test_a_plain_query_costs_one(retriever: Retriever) -> None:
    assert cost(retriever) == cost(retriever, k=1) == cost(retriever, scope="all") == 1


def test_texts_cost_by_their_length_up_to_what_encoders_read(retriever: Retriever) -> None:
    costs = [cost(retriever, "x" * length) for length in (10, 500, 1000, 2000, 10_000, 30_000)]
    assert costs == sorted(costs) and costs[0] < costs[2] < costs[3] <= costs[4] == costs[5] < 9
    # Read again as a demonstration.
    assert cost(retriever, "x" * 2000, max_copy=0.9) > 1.8 * (costs[3] - 1)


def test_coverage_costs_more_with_more_to_compare(pools: OpenPools) -> None:
    rows = [note(f"{n:04}", f"day {n} of {n % 7} and {n % 11}") for n in range(1200)]
    retriever = pools({"notes": rows}, bm25=True, label_head=False)
    costs = [cost(retriever, k=256, candidates=size, coverage=0.5) for size in (256, 512, 1024)]
    assert 1 < costs[0] < costs[1] < costs[2] <= cost(retriever, k=256, candidates=1024, coverage=0.5, diversity=0.5)
    assert costs[2] > cost(retriever, k=256)


def test_each_option_adds_to_the_cost(retriever: Retriever) -> None:
    large: dict[str, Any] = {"k": 18, "candidates": 1024}
    plain = cost(retriever, k=18)
    for option in (
        {"explain": True},
        {"fill": True},
        {"distinct": 0.9},
        {"diversity": 0.5},
        {"max_copy": 0.9},
        {"max_similarity": 0.9},
        {"balance": True},
        {"distinct": 0.9, "exclude": [str(n) for n in range(4096)]},
    ):
        assert plain < cost(retriever, **large, **option) < 100, option
    parts = cost(retriever, **large, distinct=0.9), cost(retriever, **large, diversity=0.5, explain=True)
    assert cost(retriever, **large, distinct=0.9, diversity=0.5, explain=True, balance=True) >= max(parts)
