"""Scores by labels: shrunk means computed by hand, and the share of the order that they explain."""

import pytest

from udr_training.candidates import Agreement, LabelScores, rank_candidates

LABELS = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}
SCORED = [
    rank_candidates("a1", {"a2": 0.9, "b1": 0.1, "c1": 0.4}),
    rank_candidates("b1", {"b2": 0.7, "a1": 0.2, "a2": 0.3}),
]


@pytest.fixture
def scores() -> LabelScores:
    found = LabelScores.of(SCORED, LABELS)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("query", "candidate", "expected"),
    [
        # The means of the task: same label 0.8, another 0.25; each counts as ten scores.
        ("a", "a", (0.9 + 10 * 0.8) / 11),
        ("a", "b", (0.1 + 10 * 0.25) / 11),
        ("b", "a", (0.2 + 0.3 + 10 * 0.25) / 12),
        # Never scored.
        ("c", "c", 0.8),
        ("c", "a", 0.25),
    ],
)
def test_means_by_pair_are_shrunk_to_those_of_the_task(
    scores: LabelScores, query: str, candidate: str, expected: float
) -> None:
    assert scores.score(query, candidate) == pytest.approx(expected)


def test_extrapolated_candidates_are_in_the_order_of_their_expected_scores(scores: LabelScores) -> None:
    example = scores.extrapolate("a3", ["b2", "c1", "a1"], LABELS)
    assert example.query_id == "a3" and example.candidates == ("a1", "c1", "b2")
    assert example.scores == pytest.approx([scores.score("a", label) for label in "acb"])


def test_agreement_counts_the_pairs_that_both_sides_order(scores: LabelScores) -> None:
    held_out = [
        # Three pairs: a over b and a over c alike; b over c not.
        rank_candidates("a2", {"a1": 0.9, "b1": 0.5, "c1": 0.4}),
        # Equal labels, and equal scores: neither counts.
        rank_candidates("b2", {"a1": 0.9, "a2": 0.1}),
        rank_candidates("b2", {"a1": 0.5, "b1": 0.5}),
    ]
    assert scores.agreement(7 * held_out, LABELS) == Agreement(14 / 21, 21)
    # Too few pairs, or too few queries that have some, give no share.
    assert scores.agreement(6 * held_out, LABELS) is None
    assert scores.agreement(100 * held_out[1:], LABELS) is None


@pytest.mark.parametrize("scored", [[], [SCORED[0]][:0], [rank_candidates("a1", {"a2": 0.5})]])
def test_without_both_kinds_of_candidates_there_are_no_means(scored: list[object]) -> None:
    assert LabelScores.of(scored, LABELS) is None  # type: ignore[arg-type]
