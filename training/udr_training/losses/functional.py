r"""The losses, as pure functions of similarities, scores and ranks; ``loss_modules`` makes modules of them.

Shapes: B queries a batch, l candidates a query, C candidates a batch. Similarities are dot products, or cosines
divided by a temperature; a higher one is nearer. Scores are the language model's; a higher one is better. Rank 1 is the
candidate with the best score; equal scores share a rank.
"""

import torch
from torch import Tensor
from torch.nn import functional


def ranks_of(scores: Tensor) -> Tensor:
    """Return the rank of each score in its row, 1 for the highest; equal ones share a rank: 1, 2, 2, 4.

    Args:
        scores: [B, l].

    Returns:
        int64 [B, l].
    """
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(dim=2)


def listwise_loss(similarities: Tensor, ranks: Tensor) -> Tensor:
    r"""Return the list-wise ranking loss, mean over queries (paper, equation 5).

    .. math:: \sum_{i,j} \max(0, 1/r_i - 1/r_j) \log(1 + e^{s_j - s_i})

    A pair counts the more, the better its better candidate and the further apart the two are ranked.

    Args:
        similarities: [B, l].
        ranks: [B, l], 1 for the best.

    Raises:
        ValueError: the shapes differ, or l is 1: the loss would be zero, and look fine.
    """
    _check_lists(similarities, ranks, "ranks")
    gains = 1.0 / ranks.to(similarities.dtype)
    weights = (gains[:, :, None] - gains[:, None, :]).clamp(min=0)
    costs = functional.softplus(similarities[:, None, :] - similarities[:, :, None])
    return (weights * costs).sum(dim=(1, 2)).mean()


def lambda_loss(similarities: Tensor, ranks: Tensor) -> Tensor:
    r"""Return the list-wise loss of the authors' code, mean over all pairs of all queries.

    .. math:: |1/\pi_i - 1/\pi_j| \log(1 + e^{s_j - s_i}) \quad \text{for } r_i < r_j

    Unlike equation 5, a pair is weighed by where the encoder has the two now (its order is π), not by their ranks; and
    the pairs are averaged where the paper sums them, 28 of them in a list of 8.

    Args:
        similarities: [B, l].
        ranks: [B, l], 1 for the best.

    Raises:
        ValueError: the shapes differ, or l is 1.
    """
    _check_lists(similarities, ranks, "ranks")
    # Where the encoder has two candidates at the same place, the first counts as nearer: places are all different.
    order = similarities.detach().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    gains = 1.0 / (1 + order).to(similarities.dtype)
    counted = ranks[:, :, None] < ranks[:, None, :]
    weights = (gains[:, :, None] - gains[:, None, :]).abs() * counted
    costs = functional.softplus(similarities[:, None, :] - similarities[:, :, None])
    return (weights * costs).sum() / counted.sum().clamp(min=1)


def kl_loss(similarities: Tensor, scores: Tensor, score_temperature: float) -> Tensor:
    r"""Return the divergence of the encoder's choice among a query's candidates from the language model's.

    .. math:: KL(\mathrm{softmax}(scores / \tau) \,\|\, \mathrm{softmax}(similarities))

    Mean over queries; 0 where both choose alike. LLM-R (Wang et al. 2023) distils its retriever so.

    Args:
        similarities: [B, l].
        scores: [B, l], higher is better.
        score_temperature: τ, above 0; the lower, the more the best candidate counts.

    Raises:
        ValueError: the shapes differ, or l is 1.
    """
    _check_lists(similarities, scores, "scores")
    wanted = functional.log_softmax(scores.to(similarities.dtype) / score_temperature, dim=1)
    return functional.kl_div(similarities.log_softmax(dim=1), wanted, reduction="batchmean", log_target=True)


def _check_lists(similarities: Tensor, others: Tensor, name: str) -> None:
    if similarities.shape != others.shape or similarities.ndim != 2:
        raise ValueError(f"similarities {list(similarities.shape)} and {name} {list(others.shape)} must both be [B, l]")
    if similarities.shape[1] < 2:
        raise ValueError("a list of one candidate has no order; l must be at least 2")


def in_batch_loss(similarities: Tensor, positives: Tensor, masked: Tensor) -> Tensor:
    """Return the cross-entropy of each query's positive against all candidates in the batch, mean over queries.

    Args:
        similarities: [B, C], of each query to each candidate in the batch.
        positives: int64 [B], the column of the query's best candidate.
        masked: bool [B, C], columns that are no negative for the query: itself, or copies of its positive.

    Raises:
        ValueError: a positive is masked.
    """
    if bool(masked.gather(1, positives[:, None]).any()):
        raise ValueError("a query's positive is masked; its loss would be infinite")
    return functional.cross_entropy(similarities.masked_fill(masked, -torch.inf), positives)


def not_negatives(candidate_keys: Tensor, query_keys: Tensor, positives: Tensor) -> Tensor:
    """Return which columns are no negative for a query: copies of the query, or of its positive.

    Args:
        candidate_keys: int64 [C]; equal keys stand for equal texts.
        query_keys: int64 [B].
        positives: int64 [B], the column of the query's best candidate.

    Returns:
        bool [B, C]; the positive's own column is never marked.
    """
    own = candidate_keys[None, :] == query_keys[:, None]
    copies = candidate_keys[None, :] == candidate_keys[positives][:, None]
    return (own | copies).scatter(1, positives[:, None], False)


def near_best(scores: Tensor, margin: float) -> Tensor:
    """Return which of a query's candidates score so close to its best that they may be as good: bool [B, l].

    Args:
        scores: [B, l].
        margin: ε; the best itself is always marked.
    """
    return scores >= scores.max(dim=1, keepdim=True).values - margin


def hardest_only(scores: Tensor) -> Tensor:
    """Return which candidates EPR (Rubin et al. 2022) looks at: each query's best, and its worst: bool [B, l].

    Args:
        scores: [B, l]; among equal ones, the first counts.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.argmax(dim=1, keepdim=True), True)
    return kept.scatter_(1, scores.argmin(dim=1, keepdim=True), True)
