"""The losses against values computed by hand, and the guards where a wrong input would look fine."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from udr_training.losses import (
    hardest_only,
    in_batch_loss,
    kl_loss,
    lambda_loss,
    listwise_loss,
    near_best,
    not_negatives,
    ranks_of,
)


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


def test_listwise_loss_of_three_candidates_is_the_sum_of_equation_5() -> None:
    s = [0.3, 1.0, -0.5]
    # Ranks 1, 2, 3: the pairs (1,2), (1,3), (2,3) with weights 1 - 1/2, 1 - 1/3, 1/2 - 1/3.
    expected = 1 / 2 * softplus(s[1] - s[0]) + 2 / 3 * softplus(s[2] - s[0]) + 1 / 6 * softplus(s[2] - s[1])
    loss = listwise_loss(torch.tensor([s]), torch.tensor([[1, 2, 3]]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_listwise_loss_ignores_pairs_of_equal_rank_and_averages_over_queries() -> None:
    similarities = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    loss = listwise_loss(similarities, torch.tensor([[1, 1], [1, 2]]))
    assert float(loss) == pytest.approx(0.5 * (1 / 2) * softplus(1.0), abs=1e-6)


def test_listwise_loss_does_not_depend_on_the_order_of_candidates() -> None:
    torch.manual_seed(0)
    similarities, ranks = torch.randn(5, 8), torch.stack([torch.randperm(8) + 1 for _ in range(5)])
    order = torch.randperm(8)
    shuffled = listwise_loss(similarities[:, order], ranks[:, order])
    torch.testing.assert_close(shuffled, listwise_loss(similarities, ranks))


def test_listwise_loss_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    similarities = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    ranks = torch.stack([torch.randperm(5) + 1 for _ in range(3)])
    assert torch.autograd.gradcheck(lambda s: listwise_loss(s, ranks), (similarities,))


def test_listwise_loss_stays_finite_at_extreme_similarities() -> None:
    loss = listwise_loss(torch.tensor([[-1e4, 1e4]]), torch.tensor([[1, 2]]))
    assert float(loss) == pytest.approx(1e4)


def test_listwise_loss_refuses_a_list_of_one() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        listwise_loss(torch.zeros(2, 1), torch.ones(2, 1))


def test_listwise_loss_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="must both be"):
        listwise_loss(torch.zeros(2, 3), torch.ones(1, 3))


def test_in_batch_loss_is_the_cross_entropy_without_masked_columns() -> None:
    similarities = torch.tensor([[1.0, 2.0, 0.5, 3.0]])
    masked = torch.tensor([[False, False, False, True]])
    expected = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert float(in_batch_loss(similarities, torch.tensor([1]), masked)) == pytest.approx(expected, abs=1e-6)


def test_in_batch_loss_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    similarities = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    positives, masked = torch.tensor([0, 3]), torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 5] = True
    assert torch.autograd.gradcheck(lambda s: in_batch_loss(s, positives, masked), (similarities,))


def test_in_batch_loss_refuses_a_masked_positive() -> None:
    with pytest.raises(ValueError, match="positive is masked"):
        in_batch_loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[True, False]]))


def test_copies_of_the_query_and_of_its_positive_are_no_negatives() -> None:
    candidate_keys = torch.tensor([1, 2, 3, 1, 9])
    marked = not_negatives(candidate_keys, query_keys=torch.tensor([9, 2]), positives=torch.tensor([0, 2]))
    # Query 0: column 3 copies its positive, column 4 is itself. Query 1: column 1 is itself.
    assert marked.tolist() == [[False, False, False, True, True], [False, True, False, False, False]]


def test_equal_scores_share_a_rank() -> None:
    assert ranks_of(torch.tensor([[0.5, 0.9, 0.5, 0.1], [1.0, 2.0, 3.0, 4.0]])).tolist() == [[2, 1, 2, 4], [4, 3, 2, 1]]


def test_lambda_loss_weighs_pairs_by_the_encoders_own_places_and_averages_them() -> None:
    s = [0.3, 1.0, -0.5]
    # The encoder's places are 2, 1, 3; ranks 1, 2, 3 count the pairs (1,2), (1,3), (2,3).
    weights = [abs(1 / 2 - 1 / 1), abs(1 / 2 - 1 / 3), abs(1 / 1 - 1 / 3)]
    costs = [softplus(s[1] - s[0]), softplus(s[2] - s[0]), softplus(s[2] - s[1])]
    expected = sum(weight * cost for weight, cost in zip(weights, costs, strict=True)) / 3
    loss = lambda_loss(torch.tensor([s]), torch.tensor([[1, 2, 3]]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_lambda_loss_is_equation_5_over_the_number_of_pairs_where_the_encoder_agrees() -> None:
    similarities, ranks = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[1, 2, 3, 4]])
    torch.testing.assert_close(lambda_loss(similarities, ranks), listwise_loss(similarities, ranks) / 6)


def test_lambda_loss_of_equal_ranks_is_zero() -> None:
    assert float(lambda_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1, 1]]))) == 0


def test_kl_loss_is_the_divergence_of_two_softmaxes() -> None:
    # Scores 0.1 and 0 at τ = 0.1: softmax(1, 0). Similarities 0 and 2: softmax(0, 2).
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = kl_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 0.0]]), 0.1)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    same = torch.tensor([[0.3, -0.2, 0.9], [1.0, 1.0, 1.0]])
    assert float(kl_loss(same, same / 10, 0.1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [lambda_loss, lambda s, r: kl_loss(s, r, 0.1)])
def test_every_list_wise_loss_refuses_shapes_that_would_look_fine(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="must both be"):
        loss(torch.zeros(2, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        loss(torch.zeros(2, 1), torch.ones(2, 1))


def test_candidates_near_the_best_are_those_within_the_margin() -> None:
    scores = torch.tensor([[0.9, 0.85, 0.5], [0.1, 0.2, 0.3]])
    assert near_best(scores, 0.06).tolist() == [[True, True, False], [False, False, True]]


def test_epr_looks_at_the_best_and_the_worst() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.9, 0.1], [2.0, 1.0, 3.0, 1.0]])
    assert hardest_only(scores).tolist() == [[False, True, False, True], [False, True, True, False]]
