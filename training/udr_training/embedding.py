"""Embedding the columns of a training batch without computing on padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns, merge_feature_batches
from torch import Tensor

CHUNK_TOKENS = {"cpu": 1024, "cuda": 65536}
"""Tokens a forward pass, padding included, by device: enough to keep it busy, few enough to be of like lengths."""

Features = dict[str, Any]


def embed_candidates(model: SentenceTransformer, columns: Sequence[Features]) -> Tensor:
    """Return the vectors of a batch's candidate columns.

    Candidates differ in length a lot, and one long text would widen all of a batch; so the rows of all columns
    are sorted by length and go through the model in chunks, each as wide as its longest row.

    Args:
        model: the model; its forward pass takes features to ``sentence_embedding``.
        columns: l columns of B tokenised rows each, as ``SentenceTransformerTrainer`` hands them to a loss.

    Returns:
        Tensor [B, l, dimension].
    """
    merged = merge_feature_batches(list(columns))
    if merged is None or not _is_padded_right(merged):
        return torch.stack(embed_columns(model, columns, separate_first=False), dim=1)
    lengths = merged["attention_mask"].sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    vectors = [
        model(_cut(merged, rows, int(lengths[rows[0]])))["sentence_embedding"] for rows in _chunks(lengths, order)
    ]
    # Back into the order of the columns: column 1's rows, then column 2's, ...
    restored = torch.cat(vectors)[order.argsort()]
    return restored.view(len(columns), -1, restored.shape[-1]).transpose(0, 1)


def _is_padded_right(features: Features) -> bool:
    mask = features.get("attention_mask")
    return isinstance(mask, Tensor) and mask.ndim == 2 and bool((mask[:, 1:] <= mask[:, :-1]).all())


def _chunks(lengths: Tensor, order: Tensor) -> Iterator[Tensor]:
    budget = CHUNK_TOKENS.get(lengths.device.type, CHUNK_TOKENS["cuda"])
    first = 0
    while first < len(order):
        count = max(1, budget // max(1, int(lengths[order[first]])))
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
