"""The losses against values computed by hand, and their guards."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from udr_training import losses

Loss = Callable[[Tensor, Tensor], Tensor]
every_list_loss = pytest.mark.parametrize(
    "loss",
    [
        losses.listwise_loss,
        losses.lambda_loss,
        lambda s, r: losses.kl_loss(s, r, 0.1),
        lambda s, r: losses.margin_mse_loss(s, r, 0.1),
    ],
)

SIMILARITIES = [0.3, 1.0, -0.5]
COSTS = [math.log(1 + math.exp(SIMILARITIES[j] - SIMILARITIES[i])) for i, j in ((0, 1), (0, 2), (1, 2))]
"""Of the pairs of ranks (1, 2), (1, 3), (2, 3)."""


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        # Equation 5: 1 - 1/2, 1 - 1/3, 1/2 - 1/3.
        (losses.listwise_loss, [1 / 2, 2 / 3, 1 / 6]),
        # By the encoder's positions 2, 1, 3, and the mean of three pairs.
        (losses.lambda_loss, [(1 - 1 / 2) / 3, (1 / 2 - 1 / 3) / 3, (1 - 1 / 3) / 3]),
    ],
)
def test_pairwise_losses_of_three_candidates_match_hand_values(loss: Loss, weights: list[float]) -> None:
    expected = sum(weight * cost for weight, cost in zip(weights, COSTS, strict=True))
    assert float(loss(torch.tensor([SIMILARITIES]), torch.tensor([[1, 2, 3]]))) == pytest.approx(expected, abs=1e-6)


def test_listwise_loss_ignores_pairs_of_equal_rank_and_averages_over_queries() -> None:
    loss = losses.listwise_loss(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1, 1], [1, 2]]))
    assert float(loss) == pytest.approx(0.5 * (1 / 2) * math.log(1 + math.e), abs=1e-6)
    assert float(losses.lambda_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1, 1]]))) == 0
    # Extreme similarities give a finite loss.
    assert float(losses.listwise_loss(torch.tensor([[-1e4, 1e4]]), torch.tensor([[1, 2]]))) == pytest.approx(1e4)


def test_margin_mse_of_three_candidates_matches_hand_values() -> None:
    # The best is the second: margins 0.7 and 1.5, where the scores divided by 2 have 0.2 and 0.3.
    loss = losses.margin_mse_loss(torch.tensor([SIMILARITIES]), torch.tensor([[0.5, 0.9, 0.3]]), 2.0)
    assert float(loss) == pytest.approx((0.5**2 + 1.2**2) / 2, abs=1e-6)


@every_list_loss
def test_list_losses_do_not_depend_on_the_order_of_candidates(loss: Loss) -> None:
    torch.manual_seed(0)
    similarities, ranks = torch.randn(5, 8), torch.stack([torch.randperm(8) + 1 for _ in range(5)])
    order = torch.randperm(8)
    torch.testing.assert_close(loss(similarities[:, order], ranks[:, order]), loss(similarities, ranks))


def test_gradients_match_finite_differences() -> None:
    torch.manual_seed(0)
    similarities = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    ranks = torch.stack([torch.randperm(6) + 1 for _ in range(2)])
    positives, masked = torch.tensor([0, 3]), torch.zeros(2, 6, dtype=torch.bool)
    masked[0, 5] = True
    assert torch.autograd.gradcheck(lambda s: losses.listwise_loss(s, ranks), (similarities,))
    assert torch.autograd.gradcheck(lambda s: losses.in_batch_loss(s, positives, masked), (similarities,))


@every_list_loss
def test_list_losses_reject_shapes_that_would_broadcast_or_have_no_order(loss: Loss) -> None:
    with pytest.raises(ValueError, match="must both be"):
        loss(torch.zeros(2, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        loss(torch.zeros(2, 1), torch.ones(2, 1))


def test_kl_loss_is_the_divergence_of_two_softmaxes() -> None:
    # Scores 0.1 and 0 at τ = 0.1: softmax(1, 0). Similarities 0 and 2: softmax(0, 2).
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = losses.kl_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 0.0]]), 0.1)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    same = torch.tensor([[0.3, -0.2, 0.9], [1.0, 1.0, 1.0]])
    assert float(losses.kl_loss(same, same / 10, 0.1)) == pytest.approx(0, abs=1e-6)


def test_in_batch_loss_is_the_cross_entropy_without_masked_columns() -> None:
    similarities, masked = torch.tensor([[1.0, 2.0, 0.5, 3.0]]), torch.tensor([[False, False, False, True]])
    expected = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert float(losses.in_batch_loss(similarities, torch.tensor([1]), masked)) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="positive is masked"):
        losses.in_batch_loss(similarities, torch.tensor([3]), masked)


def test_copies_of_the_query_and_of_its_positive_are_not_negatives() -> None:
    candidate_keys = torch.tensor([1, 2, 3, 1, 9])
    marked = losses.not_negatives(candidate_keys, query_keys=torch.tensor([9, 2]), positives=torch.tensor([0, 2]))
    # Query 0: column 3 copies its positive, column 4 is the query. Query 1: column 1 is the query.
    assert marked.tolist() == [[False, False, False, True, True], [False, True, False, False, False]]


def test_scores_are_ranked_and_the_near_best_and_hardest_marked() -> None:
    assert losses.ranks_of(torch.tensor([[0.5, 0.9, 0.5, 0.1], [1.0, 2.0, 3.0, 4.0]])).tolist() == [
        [2, 1, 2, 4],
        [4, 3, 2, 1],
    ]
    scores = torch.tensor([[0.9, 0.85, 0.5], [0.1, 0.2, 0.3]])
    assert losses.near_best(scores, 0.06).tolist() == [[True, True, False], [False, False, True]]
    scores = torch.tensor([[0.5, 0.9, 0.9, 0.1], [2.0, 1.0, 3.0, 1.0]])
    assert losses.hardest_only(scores).tolist() == [[False, True, False, True], [False, True, True, False]]
