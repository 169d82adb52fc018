"""A loss over a large batch in the memory of a small one (Gao et al. 2021, "Scaling Deep Contrastive Learning").

Texts are embedded twice: once without gradients, for the loss and its gradients at the vectors; then again, a few at a
time and with the same dropout, to propagate these gradients into the model.

Sentence-Transformers' ``CachedLossMixin`` is no substitute: it repeats the passes outside autocast, so in another
precision than the loss was computed in, and it cannot split texts by length across columns.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import RandContext
from torch import Tensor

from udr_training.losses.length_batching import Features, split_by_length


def embed_twice(
    model: SentenceTransformer,
    groups: Sequence[Sequence[Features]],
    loss_of_vectors: Callable[[Sequence[Tensor]], Tensor],
    mini_batch: int,
) -> Tensor:
    """Return the loss; its backward pass embeds all texts again, ``mini_batch`` at a time.

    Args:
        model: the model.
        groups: groups of columns; the columns of a group take the same route through the model.
        loss_of_vectors: the loss of vectors [B, l, dimension], one array per group.
        mini_batch: texts whose activations are kept at a time.
    """
    chunks = [split_by_length(model, columns, max_texts=mini_batch) for columns in groups]
    passes = [[_Pass(model, features) for features in group.features] for group in chunks]
    with torch.no_grad():
        vectors = [[embedding.run() for embedding in group] for group in passes]
    leaves = [[vector.detach().requires_grad_() for vector in group] for group in vectors]
    # Outside autocast: only the model computes in reduced precision.
    with torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
        loss = loss_of_vectors([group.restore(rows) for group, rows in zip(chunks, leaves, strict=True)])
        gradients = torch.autograd.grad(loss, list(chain(*leaves)))

    def propagate(scale: Tensor) -> None:
        with torch.enable_grad():
            for embedding, gradient in zip(chain(*passes), gradients, strict=True):
                vectors = embedding.run()
                if vectors.requires_grad:
                    torch.autograd.backward(vectors, gradient.to(vectors.dtype) * scale)

    handle: Any = loss.detach().requires_grad_()
    handle.register_hook(propagate)
    result: Tensor = handle
    return result


class _Pass:
    """One forward pass that can be repeated with the same dropout and precision."""

    def __init__(self, model: SentenceTransformer, features: Features) -> None:
        self._model, self._features = model, features
        self._random: RandContext | None = None
        self._device = model.device.type
        self._autocast: dict[str, Any] = {
            "enabled": torch.is_autocast_enabled(self._device),
            "dtype": torch.get_autocast_dtype(self._device),
        }

    def run(self) -> Tensor:
        if self._random is None:
            self._random = RandContext(*(value for value in self._features.values() if isinstance(value, Tensor)))
            return self._embed()
        with self._random:
            return self._embed()

    def _embed(self) -> Tensor:
        with torch.autocast(self._device, **self._autocast):
            # A copy, because some modules write into the features.
            vectors: Tensor = self._model(dict(self._features))["sentence_embedding"]
        return vectors
