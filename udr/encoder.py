"""The encoder: texts to vectors. The one file that imports sentence_transformers for inference."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from udr import models
from udr.errors import MissingExtraError, ModelError, reason
from udr.text import ENCODER_WORDING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_LOG = logging.getLogger(__name__)

RECORD = "udr.json"
"""The file in the folder of a model that udr trained: the wording it was trained with."""

Metric = Literal["cosine", "dot"]
Vectors = NDArray[np.float32]
"""Vectors, float32 [count, dimension]; of unit length where the metric is cosine."""


class Encoder(Protocol):
    """What an encoder is to the rest of udr."""

    @property
    def name(self) -> str:
        """The model's name, as it was asked for."""

    @property
    def fingerprint(self) -> str:
        """What stands for its weights, tokenizer, pooling and prompts."""

    @property
    def dimension(self) -> int:
        """The width of its vectors."""

    @property
    def metric(self) -> Metric:
        """How its vectors are compared; cosine vectors have unit length, so the dot product serves both."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]."""


class SentenceEncoder:
    """A Sentence-Transformers model: pooling, prompts and towers come from the model's own folder.

    Attributes:
        name: the model's name, as it was asked for.
        path: the folder it was loaded from.
        fingerprint: of the files in that folder.
        model: the Sentence-Transformers model.
    """

    def __init__(self, name: str, path: Path, model: "SentenceTransformer", batch_size: int = 32) -> None:
        self.name, self.path, self.model, self._batch_size = name, path, model, batch_size
        self.fingerprint = models.fingerprint(path)

    @classmethod
    def load(cls, name: str, device: str | None = None, batch_size: int = 32) -> "SentenceEncoder":
        """Load the model that ``name`` stands for (see ``udr.models``).

        Args:
            name: a hub name, a path, or ``package:NAME``.
            device: ``cpu``, ``cuda``, ``cuda:1``, ...; None takes the best there is, and where there is no GPU the
                CPU stands in for one, with a notice.
            batch_size: texts a forward pass.

        Raises:
            ModelError: the name leads nowhere, or not to an encoder.
            MissingExtraError: sentence-transformers is not installed.
        """
        path = models.locate(name)
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "index") from error
        if not path.is_dir() or not ((path / "modules.json").is_file() or (path / "config.json").is_file()):
            raise ModelError(f"model {name!r}: {path} is not an encoder; it needs a modules.json or a config.json")
        _check_wording(name, path)
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            _LOG.warning("%s: torch finds no GPU; encoding on the CPU", device)
            device = "cpu"
        try:
            model = SentenceTransformer(str(path), device=device)
        except Exception as error:
            # Weights that are cut short, a device that torch does not know, a configuration of another kind:
            # each library below has its own errors for these.
            raise ModelError(f"model {name!r} cannot be loaded from {path}: {reason(error)}") from error
        return cls(name, path, model, batch_size)

    @property
    def dimension(self) -> int:
        """The width of its vectors."""
        width = self.model.get_embedding_dimension()
        if width is None:
            raise ModelError(f"model {self.name!r} does not tell the width of its vectors")
        return int(width)

    @property
    def metric(self) -> Metric:
        """How its vectors are compared."""
        metric = str(self.model.similarity_fn_name)
        if metric not in ("cosine", "dot"):
            raise ModelError(f"model {self.name!r} compares by {metric}; udr searches by cosine or dot product")
        return cast("Metric", metric)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""
        return self._encode(self.model.encode_query, texts)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]."""
        return self._encode(self.model.encode_document, texts)

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=self.metric == "cosine",
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _check_wording(name: str, path: Path) -> None:
    record = path / RECORD
    if not record.is_file():
        return
    try:
        found = json.loads(record.read_bytes()).get("encoder_wording")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"model {name!r}: {record} must be a JSON object; train the model again") from error
    if found != ENCODER_WORDING:
        raise ModelError(
            f"model {name!r} was trained with the encoder wording {found}, this version of udr uses {ENCODER_WORDING}; "
            "train it again, or use the version of udr that trained it"
        )
