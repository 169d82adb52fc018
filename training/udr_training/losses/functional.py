r"""The losses as pure functions of similarities, scores and ranks; ``CandidateLoss`` turns them into a module.

Shapes: B queries a batch, l candidates a query, C candidates a batch; similarities, scores and ranks of a query's own
candidates are [B, l]. Similarities are the encoder's: dot products, or cosines divided by a temperature. Scores are the
language model's. For both, higher is better. Rank 1 is the best score; equal scores share a rank. List losses raise
ValueError if their shapes differ or l is 1, for which they would silently be zero.
"""

import torch
from torch import Tensor
from torch.nn import functional


def ranks_of(scores: Tensor) -> Tensor:
    """Return the rank of each score in its row, int64 [B, l]; equal scores share a rank: 1, 2, 2, 4."""
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(dim=2)


def listwise_loss(similarities: Tensor, ranks: Tensor) -> Tensor:
    r"""Return the list-wise ranking loss, mean over queries (paper, equation 5).

    .. math:: \sum_{i,j} \max(0, 1/r_i - 1/r_j) \log(1 + e^{s_j - s_i})

    A pair weighs more if its better candidate ranks higher, and if the two ranks are further apart.
    """
    _check_lists(similarities, ranks, "ranks")
    gains = 1.0 / ranks.to(similarities.dtype)
    weights = _differences(gains).clamp(min=0)
    return (weights * functional.softplus(-_differences(similarities))).sum(dim=(1, 2)).mean()


def lambda_loss(similarities: Tensor, ranks: Tensor) -> Tensor:
    r"""Return the list-wise loss of the authors' code, mean over all pairs of all queries.

    .. math:: |1/\pi_i - 1/\pi_j| \log(1 + e^{s_j - s_i}) \quad \text{for } r_i < r_j

    Unlike in equation 5, a pair's weight depends on its positions π in the encoder's order, not on its ranks; and pairs
    are averaged, not summed (28 of them in a list of 8).
    """
    _check_lists(similarities, ranks, "ranks")
    # Stable, so that equal similarities have different positions too.
    positions = similarities.detach().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    gains = 1.0 / (1 + positions).to(similarities.dtype)
    is_better = ranks[:, :, None] < ranks[:, None, :]
    costs = functional.softplus(-_differences(similarities))
    return (_differences(gains).abs() * is_better * costs).sum() / is_better.sum().clamp(min=1)


def kl_loss(similarities: Tensor, scores: Tensor, score_temperature: float) -> Tensor:
    r"""Return the divergence of the encoder's distribution over a query's candidates from the language model's.

    .. math:: KL(\mathrm{softmax}(scores / \tau) \,\|\, \mathrm{softmax}(similarities))

    Mean over queries; 0 if the distributions are equal. The lower τ, which is above 0, the more weight the best
    candidate has. LLM-R (Wang et al. 2023) distils its retriever this way.
    """
    _check_lists(similarities, scores, "scores")
    target = functional.log_softmax(scores.to(similarities.dtype) / score_temperature, dim=1)
    return functional.kl_div(similarities.log_softmax(dim=1), target, reduction="batchmean", log_target=True)


def margin_mse_loss(similarities: Tensor, scores: Tensor, score_temperature: float) -> Tensor:
    r"""Return the squared error of the best candidate's margins over the others, mean over all of them.

    .. math:: ((s_b - s_j) - (score_b - score_j) / \tau)^2

    0 if every margin of the encoder is that of the language model, divided by τ (above 0). Hofstätter et al. (2020)
    distil a cross-encoder this way, with τ = 1. The first of equal scores is the best.
    """
    _check_lists(similarities, scores, "scores")
    best = scores.argmax(dim=1, keepdim=True)
    targets = scores.to(similarities.dtype) / score_temperature
    margins, expected = (values.gather(1, best) - values for values in (similarities, targets))
    # The best candidate's margin over itself is 0 for both.
    return (margins - expected).square().sum() / (similarities.shape[0] * (similarities.shape[1] - 1))


def _differences(values: Tensor) -> Tensor:
    """Return v_i - v_j of all pairs of a row: [B, l, l]."""
    return values[:, :, None] - values[:, None, :]


def _check_lists(similarities: Tensor, others: Tensor, name: str) -> None:
    if similarities.shape != others.shape or similarities.ndim != 2:
        raise ValueError(f"similarities {list(similarities.shape)} and {name} {list(others.shape)} must both be [B, l]")
    if similarities.shape[1] < 2:
        raise ValueError("a list of one candidate has no order; l must be at least 2")


def in_batch_loss(similarities: Tensor, positives: Tensor, masked: Tensor) -> Tensor:
    """Return the cross-entropy of each query's positive against all candidates in the batch, mean over queries.

    Args:
        similarities: [B, C], of each query to each candidate in the batch.
        positives: int64 [B], the column of each query's best candidate.
        masked: bool [B, C], columns that are not negatives of the query.

    Raises:
        ValueError: a positive is masked.
    """
    if bool(masked.gather(1, positives[:, None]).any()):
        raise ValueError("a query's positive is masked; its loss would be infinite")
    return functional.cross_entropy(similarities.masked_fill(masked, -torch.inf), positives)


def not_negatives(candidate_keys: Tensor, query_keys: Tensor, positives: Tensor) -> Tensor:
    """Return which columns are not negatives of a query: copies of the query or of its positive; bool [B, C].

    The positive's own column is never marked.

    Args:
        candidate_keys: int64 [C]; equal keys mean equal texts.
        query_keys: int64 [B].
        positives: int64 [B], the column of each query's best candidate.
    """
    of_query = candidate_keys[None, :] == query_keys[:, None]
    of_positive = candidate_keys[None, :] == candidate_keys[positives][:, None]
    return (of_query | of_positive).scatter(1, positives[:, None], False)


def same_target(candidate_targets: Tensor, positives: Tensor) -> Tensor:
    """Return which columns have the target of a query's positive, except for the positive's own; bool [B, C].

    Args:
        candidate_targets: int64 [C]; equal numbers mean equal targets.
        positives: int64 [B], the column of each query's best candidate.
    """
    alike = candidate_targets[None, :] == candidate_targets[positives][:, None]
    return alike.scatter(1, positives[:, None], False)


def near_best(scores: Tensor, margin: float) -> Tensor:
    """Return which of a query's candidates score within ``margin`` (at least 0) of its best or are it: bool [B, l]."""
    return scores >= scores.max(dim=1, keepdim=True).values - margin


def hardest_only(scores: Tensor) -> Tensor:
    """Return each query's best and worst candidate, the two that EPR (Rubin et al. 2022) uses: bool [B, l].

    The first of equal scores counts.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.argmax(dim=1, keepdim=True), True)
    return kept.scatter_(1, scores.argmin(dim=1, keepdim=True), True)
