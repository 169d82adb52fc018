"""The losses against values computed by hand, and the guards where a wrong input would look fine."""

import math

import pytest
import torch

from udr_training.losses import UDRLoss, in_batch_loss, listwise_loss, not_negatives


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


def udr_loss(**settings: float | None) -> UDRLoss:
    return UDRLoss(torch.nn.Identity(), **settings)  # type: ignore[arg-type]


def test_module_adds_both_losses_by_weight() -> None:
    torch.manual_seed(0)
    queries, candidates = torch.randn(3, 4), torch.randn(3, 5, 4)
    ranks = torch.stack([torch.randperm(5) + 1 for _ in range(3)])
    keys, query_keys = torch.arange(15).view(3, 5), torch.arange(100, 103)[:, None]
    labels = torch.cat([ranks, keys, query_keys], dim=1)
    similarities = queries @ candidates.flatten(0, 1).T
    own = torch.stack([similarities[row, 5 * row : 5 * row + 5] for row in range(3)])
    positives = torch.tensor([5 * row for row in range(3)]) + ranks.argmin(dim=1)
    expected = 0.8 * listwise_loss(own, ranks) + 0.2 * in_batch_loss(similarities, positives, torch.zeros(3, 15).bool())
    loss = udr_loss(temperature=None, ranking_weight=0.8).compute_loss_from_embeddings(queries, candidates, labels)
    torch.testing.assert_close(loss, expected)


def test_module_divides_cosines_by_the_temperature() -> None:
    queries, candidates = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    expected = torch.tensor([[math.sqrt(0.5) / 0.05]])
    torch.testing.assert_close(udr_loss(temperature=0.05).similarities(queries, candidates), expected)


def test_module_refuses_labels_of_another_width() -> None:
    with pytest.raises(ValueError, match="ranks, candidate keys, query key"):
        udr_loss().compute_loss_from_embeddings(torch.zeros(2, 4), torch.zeros(2, 3, 4), torch.zeros(2, 3))


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": -1.0}, {"ranking_weight": 1.5}])
def test_module_refuses_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        udr_loss(**settings)
