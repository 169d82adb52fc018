"""A loss over a large batch in the memory of a small one (Gao et al. 2021, "Scaling Deep Contrastive Learning").

The texts are embedded twice: once without gradients, for the loss and its gradients at the vectors, and once more, a
few at a time and with the same dropout, to carry these gradients into the model.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import RandContext
from torch import Tensor

from udr_training.losses.length_batching import Features, cut_by_length

OfVectors = Callable[[Sequence[Tensor]], Tensor]
"""Returns the loss of vectors [B, l, dimension], one array per group of columns."""


def embed_twice(
    model: SentenceTransformer, groups: Sequence[Sequence[Features]], of_vectors: OfVectors, mini_batch: int
) -> Tensor:
    """Return the loss; its backward pass embeds all texts again, ``mini_batch`` at a time.

    Args:
        model: the model.
        groups: columns that go the same way through the model, group by group.
        of_vectors: the loss.
        mini_batch: texts whose activations are held at a time.
    """
    cut = [cut_by_length(columns, mini_batch) for columns in groups]
    passes: list[_Pass] = []
    vectors = []
    for chunks in cut:
        own = [_Pass(model, features) for features in chunks.features]
        with torch.no_grad():
            vectors.append([one.run() for one in own])
        passes += own
    leaves = [[vector.detach().requires_grad_() for vector in own] for own in vectors]
    # The gradients at the vectors are as exact as the loss; only the model computes in fewer bits.
    with torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
        loss = of_vectors([chunks.restore(own) for chunks, own in zip(cut, leaves, strict=True)])
        gradients = torch.autograd.grad(loss, [leaf for own in leaves for leaf in own])
    handle: Any = loss.detach().requires_grad_()
    handle.register_hook(partial(_carry, passes, gradients))
    result: Tensor = handle
    return result


class _Pass:
    """One forward pass that can be done again with the same dropout, in the same precision."""

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
            # A copy: some modules write into the features that they are given.
            vectors: Tensor = self._model(dict(self._features))["sentence_embedding"]
        return vectors


def _carry(passes: Sequence[_Pass], gradients: Sequence[Tensor], scale: Tensor) -> None:
    """Embed again with gradients, and carry the loss's own into the model, pass by pass."""
    with torch.enable_grad():
        for one, gradient in zip(passes, gradients, strict=True):
            vectors = one.run()
            if vectors.requires_grad:
                torch.autograd.backward(vectors, gradient.to(vectors.dtype) * scale)
