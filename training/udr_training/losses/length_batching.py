"""Embeds the columns of a training batch with little padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import merge_feature_batches
from torch import Tensor

CHUNK_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Tokens per forward pass including padding, by device: enough to keep it busy, few enough for similar lengths."""

Features = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunks:
    """A batch's columns, cut into what goes through the model together.

    Attributes:
        features: of each forward pass.
        order: int64 [l B], for each text of column 1, then of column 2, ..., its place in the order of the passes; None
            where the columns go through the model one by one.
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


def embed(model: SentenceTransformer, columns: Sequence[Features]) -> Tensor:
    """Return the vectors of a batch's columns, which go the same way through the model: [B, l, dimension].

    Candidates differ in length a lot, and one long text would widen all of a batch; so the rows of all columns
    are sorted by length and go through the model in chunks, each as wide as its longest row.

    Args:
        model: the model; its forward pass takes features to ``sentence_embedding``.
        columns: l columns of B tokenised rows each, as ``SentenceTransformerTrainer`` hands them to a loss.
    """
    chunks = cut_by_length(columns)
    return chunks.restore([model(features)["sentence_embedding"] for features in chunks.features])


def cut_by_length(columns: Sequence[Features], most: int | None = None) -> Chunks:
    """Cut columns into chunks of texts of like lengths.

    Args:
        columns: l columns of B tokenised rows each.
        most: texts a chunk, at most; None for as many as make a pass worth while.
    """
    merged = merge_feature_batches(list(columns))
    if merged is None or "input_ids" not in merged:
        # Columns of unlike kinds, and features that are not a row a text (static embeddings, packed texts, images).
        return Chunks(tuple(columns), None, len(columns))
    width = merged["input_ids"].shape[1]
    if _is_padded_right(merged):
        lengths = merged["attention_mask"].sum(dim=1)
    else:
        lengths = torch.full((len(merged["input_ids"]),), width, device=merged["input_ids"].device)
    order = lengths.argsort(descending=True, stable=True)
    features = tuple(_cut(merged, rows, int(lengths[rows[0]])) for rows in _passes(lengths, order, most))
    return Chunks(features, order.argsort(), len(columns))


def _is_padded_right(features: Features) -> bool:
    mask = features.get("attention_mask")
    return isinstance(mask, Tensor) and mask.ndim == 2 and bool((mask[:, 1:] <= mask[:, :-1]).all())


def _passes(lengths: Tensor, order: Tensor, most: int | None) -> Iterator[Tensor]:
    budget = CHUNK_TOKENS.get(lengths.device.type, CHUNK_TOKENS["cuda"])
    first = 0
    while first < len(order):
        count = most or max(1, budget // max(1, int(lengths[order[first]])))
        yield order[first : first + count]
        first += count


def _cut(features: Features, rows: Tensor, width: int) -> Features:
    """Return some rows of a batch, without the columns that are padding in all of them."""
    return {
        name: (value[rows][:, :width] if value.ndim >= 2 else value[rows])
        if isinstance(value, Tensor) and value.ndim and name != "prompt_length"
        else value
        for name, value in features.items()
    }
