"""The losses as a module for ``SentenceTransformerTrainer``, here or in your own training (docs/losses.md)."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional

from udr_training.config import LOSSES, TrainConfig
from udr_training.losses.functional import (
    hardest_only,
    in_batch_loss,
    kl_loss,
    lambda_loss,
    listwise_loss,
    margin_mse_loss,
    near_best,
    not_negatives,
    ranks_of,
    same_target,
)
from udr_training.losses.gradient_cache import embed_twice
from udr_training.losses.length_batching import Features, embed
from udr_training.losses.process_group import gathered

_LOG = logging.getLogger(__name__)

# The labels are float32, which represents whole numbers exactly up to here.
_MAX_KEY = 1 << 24
_SETTINGS = ("ranking_weight", "score_margin", "score_temperature", "mini_batch")


class CandidateLoss(nn.Module):
    """A loss over queries and their scored candidates.

    ==============================================  =======================================================
    Columns                                         Label
    ==============================================  =======================================================
    query, candidate 1, ..., candidate l            2 l + 1 numbers: the candidates' scores, higher is better;
                                                    their keys; the query's key. Keys are whole numbers below
                                                    2^24; equal texts have equal keys
    the same, with targets                          3 l + 1 numbers: the same, and a key of each candidate's
                                                    target; equal targets have equal keys
    ==============================================  =======================================================

    With targets, no candidate of the batch with the target of a query's best candidate is a negative of the query.

    ``kind`` is one of

    - ``udr``: λ · list-wise loss + (1 - λ) · in-batch loss (the paper, equation 5; its λ is 0.8),
    - ``lambda``: the same with the list-wise loss of the authors' code,
    - ``kl``: the same with the divergence from the language model's distribution,
    - ``margin_mse``: the same with the squared error of the best candidate's margins over the others,
    - ``epr``: the best candidate against the worst, and against the best and worst of the batch's other queries,
    - ``mnrl``: the best candidate against those of the batch's other queries (multiple negatives ranking loss).

    Args:
        model: the model to train.
        kind: the loss.
        temperature: divides the cosines; None uses the plain dot product, as the paper does, which suits no encoder
            that normalises its vectors: their dot products lie too close together to learn from.
        ranking_weight: λ, 0 to 1; ``epr`` and ``mnrl`` have none.
        score_margin: a query's own candidates that score within this margin of the best are not negatives of the query;
            0 masks none.
        score_temperature: τ of ``kl`` and ``margin_mse``.
        mini_batch: texts that are embedded at a time, with their gradients. The loss is that of the whole batch, and
            memory grows only with the mini-batch. 0 embeds all at once, which is faster.
        gather_across_devices: among processes that train together, the batch is that of all of them: each has a part
            of its queries, computes the same loss, and has to average its gradients with the others', as DDP does.

    Raises:
        ValueError: a setting is invalid.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        kind: str = "udr",
        temperature: float | None = 0.05,
        ranking_weight: float = 0.8,
        score_margin: float = 0.0,
        score_temperature: float = 0.1,
        mini_batch: int = 0,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        if kind not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; found {kind!r}")
        for name, value in {"temperature": temperature, "score_temperature": score_temperature}.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, found {value}")
        if not 0 <= ranking_weight <= 1:
            raise ValueError(f"ranking_weight must be in [0, 1], found {ranking_weight}")
        if not score_margin >= 0 or mini_batch < 0:
            raise ValueError(f"score_margin and mini_batch must be at least 0, found {score_margin} and {mini_batch}")
        self.model, self.kind, self.temperature, self.ranking_weight = model, kind, temperature, ranking_weight
        self.score_margin, self.score_temperature, self.mini_batch = score_margin, score_temperature, mini_batch
        self.gather_across_devices, self._told = gather_across_devices, False
        # Makes losses that wrap others refuse this one: they would train on wrong gradients.
        self.uses_gradient_cache = mini_batch > 0

    @classmethod
    def of(cls, model: SentenceTransformer, config: TrainConfig) -> "CandidateLoss":
        """Return the loss of a training configuration."""
        settings: dict[str, Any] = {name: getattr(config, name) for name in _SETTINGS}
        return cls(model, config.loss, config.temperature or None, gather_across_devices=True, **settings)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """Embed the columns and return the loss."""
        queries, *candidates = sentence_features

        def loss_of_vectors(vectors: Sequence[Tensor]) -> Tensor:
            batch = (vectors[0].squeeze(1), vectors[1], labels)
            return self.compute_loss_from_embeddings(*(gathered(*batch) if self.gather_across_devices else batch))

        if self.mini_batch and torch.is_grad_enabled():
            return embed_twice(self.model, [[queries], candidates], loss_of_vectors, self.mini_batch)
        return loss_of_vectors([embed(self.model, columns) for columns in ([queries], candidates)])

    def compute_loss_from_embeddings(self, queries: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of vectors.

        Args:
            queries: [B, dimension].
            candidates: [B, l, dimension].
            labels: [B, 2 l + 1], or [B, 3 l + 1] with targets.

        Raises:
            ValueError: the label has another width, it contains NaN or infinity, or a key is too large.
        """
        batch, length, _ = candidates.shape
        if labels.shape not in ((batch, 2 * length + 1), (batch, 3 * length + 1)):
            raise ValueError(
                f"labels must be [{batch}, {2 * length + 1}] for {length} candidate columns: scores, candidate keys, "
                f"query key; or [{batch}, {3 * length + 1}], with candidate targets; found {list(labels.shape)}"
            )
        # NaN would count as the best score.
        if not bool(labels.isfinite().all()):
            raise ValueError("labels must be finite, found NaN or infinity among scores or keys")
        scores, keys, targets = labels.tensor_split([length, 2 * length + 1], dim=1)
        if bool((labels[:, length:] >= _MAX_KEY).any()):
            raise ValueError(f"keys must be below {_MAX_KEY}, found {int(labels[:, length:].max())}")
        similarities = self.similarities(queries, candidates.flatten(0, 1))
        # The columns of each query's own candidates.
        columns = torch.arange(batch * length, device=labels.device).view(batch, length)
        # The first of equal scores is the positive.
        best = scores.argmax(dim=1, keepdim=True)
        positives = columns.gather(1, best).squeeze(1)
        masked = not_negatives(keys[:, :-1].flatten(), keys[:, -1], positives)
        if targets.numel():
            masked = masked | same_target(targets.flatten(), positives)
        if self.score_margin:
            too_good = near_best(scores, self.score_margin).scatter(1, best, False)
            masked = masked.scatter(1, columns, masked.gather(1, columns) | too_good)
        if self.kind == "epr":
            masked = masked | ~hardest_only(scores).flatten()[None]
        elif self.kind == "mnrl":
            masked = masked | ~torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True).flatten()[None]
        self._tell_without_negatives(masked)
        contrast = in_batch_loss(similarities, positives, masked)
        if self.kind in ("epr", "mnrl"):
            return contrast
        lists = similarities.gather(1, columns)
        if self.kind in ("kl", "margin_mse"):
            distil = kl_loss if self.kind == "kl" else margin_mse_loss
            ranking = distil(lists, scores, self.score_temperature)
        else:
            ranking = (listwise_loss if self.kind == "udr" else lambda_loss)(lists, ranks_of(scores))
        return self.ranking_weight * ranking + (1 - self.ranking_weight) * contrast

    def similarities(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the similarities [B, C] of queries [B, dimension] and candidates [C, dimension], in float32."""
        # bfloat16, which autocast would use, has steps of 0.004 between cosines: 0.08 at a temperature of 0.05, more
        # than the difference of many candidates.
        with torch.autocast(queries.device.type, enabled=False):
            queries, candidates = queries.float(), candidates.float()
            if self.temperature is None:
                return queries @ candidates.T
            return functional.normalize(queries, dim=1) @ functional.normalize(candidates, dim=1).T / self.temperature

    def _tell_without_negatives(self, masked: Tensor) -> None:
        # Each query's positive is never masked.
        if not self._told and bool((masked.sum(dim=1) == masked.shape[1] - 1).all()):
            self._told = True
            _LOG.warning(
                "no query of a batch has a negative, so its in-batch loss is 0 and teaches nothing; use larger "
                "batches, a smaller score_margin, or no keys of targets (train.label_aware)"
            )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings for the model card."""
        return {name: getattr(self, name) for name in ("kind", "temperature", *_SETTINGS)}
