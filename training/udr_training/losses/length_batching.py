"""Embeds the columns of a training batch with little padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import merge_feature_batches
from torch import Tensor

from udr_training.losses.process_group import most_passes

Features = dict[str, Any]

# Tokens of a forward pass, padding included: enough to keep the device busy, few enough for similar lengths.
_CHUNK_TOKENS = {"cpu": 1024, "cuda": 65536}


@dataclass(frozen=True, slots=True)
class Chunks:
    """The columns of a batch, split into forward passes.

    Attributes:
        features: of each forward pass.
        order: int64 [l B], the position in the passes' output of each text, column by column; None if each column is a
            pass of its own. Outputs at other positions are of no use.
        columns: l.
    """

    features: tuple[Features, ...]
    order: Tensor | None
    columns: int

    def restore(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return the passes' vectors as [B, l, dimension]."""
        if self.order is None:
            return torch.stack(list(vectors), dim=1)
        restored = torch.cat(list(vectors))[self.order]
        return restored.view(self.columns, -1, restored.shape[-1]).transpose(0, 1)


def embed(model: SentenceTransformer, columns: Sequence[Features], *, chunk_tokens: int | None = None) -> Tensor:
    """Return the vectors of columns that take the same route through the model: [B, l, dimension].

    Candidates differ a lot in length, and one long text would widen a whole batch. So the rows of all columns are
    sorted by length and embedded in chunks, each as wide as its longest row.

    Args:
        model: the model; its forward pass adds ``sentence_embedding``.
        columns: l columns of B tokenised rows each, as ``SentenceTransformerTrainer`` passes them to a loss.
        chunk_tokens: tokens of a chunk, padding included; by default what keeps the device busy.
    """
    chunks = split_by_length(model, columns, chunk_tokens=chunk_tokens)
    return chunks.restore([model(features)["sentence_embedding"] for features in chunks.features])


def split_by_length(
    model: SentenceTransformer,
    columns: Sequence[Features],
    *,
    max_texts: int | None = None,
    chunk_tokens: int | None = None,
) -> Chunks:
    """Split columns (see ``embed``) into chunks of at most ``max_texts`` of similar length, or else by tokens.

    Processes that share the model's weights make equally many passes; for that, some embed their shortest text again.
    """
    merged = merge_feature_batches(list(columns))
    if merged is None or "input_ids" not in merged:
        # Columns of different kinds, or features that do not have a row per text (static embeddings, images).
        return Chunks(tuple(columns), None, len(columns))
    ids, mask = merged["input_ids"], merged.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and bool((mask[:, 1:] <= mask[:, :-1]).all()):
        lengths = mask.sum(dim=1)
    else:
        # Not padded on the right: no column can be dropped.
        lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    budget = chunk_tokens or _CHUNK_TOKENS.get(ids.device.type, _CHUNK_TOKENS["cuda"])
    order = lengths.argsort(descending=True, stable=True)
    features, first = [], 0
    while first < len(order):
        width = int(lengths[order[first]])
        count = max_texts or max(1, budget // max(1, width))
        features.append(_select(merged, order[first : first + count], width))
        first += count
    for _ in range(most_passes(len(features), model) - len(features)):
        # The loss does not use its vector, so its gradients are zero.
        features.append(_select(merged, order[-1:], int(lengths[order[-1]])))
    return Chunks(tuple(features), order.argsort(), len(columns))


def _select(features: Features, rows: Tensor, width: int) -> Features:
    """Return some rows of a batch, without the token positions that are padding in all of them."""
    return {
        name: (value[rows][:, :width] if value.ndim >= 2 else value[rows])
        if isinstance(value, Tensor) and value.ndim and name != "prompt_length"
        else value
        for name, value in features.items()
    }
