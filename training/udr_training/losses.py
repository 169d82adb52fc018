r"""The losses of the paper, as pure functions of similarities and ranks, and as a Sentence-Transformers module.

Shapes: B queries a batch, l candidates a query. Similarities are dot products, or cosines divided by a
temperature; a higher one is nearer. Rank 1 is the candidate with the best score; equal scores share a rank.
"""

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from udr_training.embedding import embed_candidates


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
    if similarities.shape != ranks.shape or similarities.ndim != 2:
        raise ValueError(f"similarities {list(similarities.shape)} and ranks {list(ranks.shape)} must both be [B, l]")
    if similarities.shape[1] < 2:
        raise ValueError("a list of one candidate has no order; l must be at least 2")
    gains = 1.0 / ranks.to(similarities.dtype)
    weights = (gains[:, :, None] - gains[:, None, :]).clamp(min=0)
    costs = functional.softplus(similarities[:, None, :] - similarities[:, :, None])
    return (weights * costs).sum(dim=(1, 2)).mean()


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


class UDRLoss(nn.Module):
    """λ · list-wise ranking loss + (1 - λ) · in-batch loss (the paper has λ = 0.8), for ``SentenceTransformerTrainer``.

    ==============================================  =======================================================
    Columns                                         Label
    ==============================================  =======================================================
    query, candidate 1, ..., candidate l            2 l + 1 integers: the candidates' ranks, their keys, and
                                                    the query's key; equal keys stand for equal texts
    ==============================================  =======================================================

    Args:
        model: the model to train.
        temperature: cosines are divided by it; None takes the plain dot product, as the paper does.
        ranking_weight: λ, 0 to 1.

    Raises:
        ValueError: the temperature is not positive, or λ is not in [0, 1].
    """

    def __init__(
        self, model: SentenceTransformer, temperature: float | None = 0.05, ranking_weight: float = 0.8
    ) -> None:
        super().__init__()
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be above 0, found {temperature}")
        if not 0 <= ranking_weight <= 1:
            raise ValueError(f"ranking_weight must be in [0, 1], found {ranking_weight}")
        self.model, self.temperature, self.ranking_weight = model, temperature, ranking_weight

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Embed the columns and return the loss."""
        queries, *candidates = sentence_features
        return self.compute_loss_from_embeddings(
            self.model(queries)["sentence_embedding"], embed_candidates(self.model, candidates), labels
        )

    def compute_loss_from_embeddings(self, queries: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
        """Return the loss from vectors.

        Args:
            queries: [B, dimension].
            candidates: [B, l, dimension].
            labels: int64 [B, 2 l + 1].

        Raises:
            ValueError: the label's width is not 2 l + 1.
        """
        batch, length, _ = candidates.shape
        if labels.shape != (batch, 2 * length + 1):
            raise ValueError(
                f"labels must be [{batch}, {2 * length + 1}] for {length} candidate columns: ranks, candidate keys, "
                f"query key; found {list(labels.shape)}"
            )
        ranks, keys, query_keys = torch.split(labels, [length, length, 1], dim=1)
        similarities = self.similarities(queries, candidates.flatten(0, 1))
        own_columns = torch.arange(batch * length, device=labels.device).view(batch, length)
        # Among equal ranks the first is the positive.
        positives = own_columns.gather(1, ranks.argmin(dim=1, keepdim=True)).squeeze(1)
        masked = not_negatives(keys.flatten(), query_keys.squeeze(1), positives)
        ranking = listwise_loss(similarities.gather(1, own_columns), ranks)
        contrast = in_batch_loss(similarities, positives, masked)
        return self.ranking_weight * ranking + (1 - self.ranking_weight) * contrast

    def similarities(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the similarities [B, C] of queries [B, dimension] and candidates [C, dimension]."""
        if self.temperature is None:
            return queries @ candidates.T
        return functional.normalize(queries, dim=1) @ functional.normalize(candidates, dim=1).T / self.temperature

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings for the model card."""
        return {"temperature": self.temperature, "ranking_weight": self.ranking_weight}
