"""What a demonstration is worth to any query: means computed by hand."""

import pytest

from udr_training.candidates import demonstration_means, rank_candidates, subtracted

SCORED = [
    # Means of the queries: 0.5 and 0.3.
    rank_candidates("q1", {"always": 0.9, "sometimes": 0.5, "never": 0.1}),
    rank_candidates("q2", {"always": 0.5, "never": 0.1}),
]


def test_means_are_of_differences_from_the_querys_mean_and_shrunk() -> None:
    means = demonstration_means(SCORED)
    assert means == pytest.approx({"always": (0.4 + 0.2) / 12, "sometimes": 0.0, "never": -(0.4 + 0.2) / 12})


def test_subtracted_means_rank_anew_and_unknown_demonstrations_keep_their_scores() -> None:
    means = {"always": 0.5, "never": -0.1}
    first, second = subtracted(means, [SCORED[0], rank_candidates("q3", {"new": 0.3, "always": 0.4})])
    assert first.candidates == ("sometimes", "always", "never")
    assert first.scores == pytest.approx((0.5, 0.4, 0.2))
    assert second.candidates == ("new", "always") and second.scores == pytest.approx((0.3, -0.1))


def test_a_query_that_helps_all_alike_changes_nothing() -> None:
    alike = [rank_candidates(query, {"a": level, "b": level}) for query, level in (("q1", 0.9), ("q2", 0.1))]
    assert subtracted(demonstration_means(alike), alike) == tuple(alike)
