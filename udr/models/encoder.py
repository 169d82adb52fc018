"""The encoder: texts to vectors; the only file that imports sentence_transformers for inference."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from udr.errors import ModelError, optional_import, reason
from udr.models import hub
from udr.models.device import best_device
from udr.models.record import check_wording
from udr.models.window import TextWindow
from udr.search import Metric, Vectors
from udr.types import Json, Role

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

    from udr.models.query_tokenizer import QueryTokenizer

_LOG = logging.getLogger(__name__)

DType = Literal["float32", "bfloat16", "float16"]

# The least and the most texts of a forward pass, and how many tokens more than the least may have.
_LEAST, _MOST, _TOKENS = 32, 256, 1 << 17

# How Sentence-Transformers calls the roles, and the names of their prompts, of which the first counts.
_TASKS: Mapping[Role, str] = {"query": "query", "demonstration": "document"}
_PROMPTS: Mapping[Role, Sequence[str]] = {"query": ("query",), "demonstration": ("document", "passage", "corpus")}


class Encoder(Protocol):
    """An encoder, as the rest of udr uses it."""

    @property
    def name(self) -> str:
        """The model's name, as requested."""

    @property
    def fingerprint(self) -> str:
        """A hash of its weights, tokenizer, pooling and prompts."""

    @property
    def dimension(self) -> int:
        """The dimension of its vectors."""

    @property
    def metric(self) -> Metric:
        """How its vectors are compared; cosine vectors have unit length, so both use the dot product."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of query texts, float32 [len(texts), dimension]."""

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of demonstration texts, float32 [len(texts), dimension]."""


class SentenceEncoder:
    """A Sentence-Transformers model; pooling, prompts and towers come from its folder; see ``load``."""

    def __init__(
        self, name: str, path: Path, model: "SentenceTransformer", batch_size: int = 32, dtype: DType = "float32"
    ) -> None:
        self.name, self.path, self.model, self.batch_size, self.dtype = name, path, model, batch_size, dtype
        self.fingerprint = hub.fingerprint(path)

    @classmethod
    def load(
        cls, name: str | Path, device: str | None = None, batch_size: int | None = None, dtype: DType = "float32"
    ) -> "SentenceEncoder":
        """Load a model by name.

        Args:
            name: see ``hub.locate``.
            device: see ``best_device``.
            batch_size: texts per forward pass; None takes 32 on a CPU and up to 256 elsewhere, fewer for long windows.
            dtype: the precision of the transformers; the modules after them (pooling, ...) stay in float32. Indexes
                are built in float32; half precision is for queries.

        Raises:
            ModelError: there is no such model, or it is not an encoder.
            MissingExtraError: sentence-transformers is not installed.
        """
        name = str(name)
        path = hub.locate_encoder(name)
        _LOG.info("loading %s...", name.removeprefix(hub.PACKAGE))
        with optional_import("sentence-transformers", "index"):
            import torch
            from sentence_transformers import SentenceTransformer

            from udr.models.counting import without_bars
        check_wording(name, path)
        if not (path / "modules.json").is_file():
            _LOG.warning("model %s has no pooling settings (modules.json); the mean of its tokens is used", name)
        device = best_device(device)
        try:
            # Explicit even for float32: the default is the precision of the saved weights.
            # Or else the library would ask the hub for a model of the folder's name, whenever it saves this one.
            with without_bars():
                model = SentenceTransformer(
                    str(path),
                    device=device,
                    model_kwargs={"dtype": getattr(torch, dtype)},
                    trust_remote_code=False,
                    local_files_only=True,
                )
        except Exception as error:
            # Each library has its own errors: truncated weights, an unknown device, an invalid configuration, ...
            raise ModelError(f"model {name!r} cannot be loaded from {path}: {reason(error)}") from error
        if dtype == "float32":
            model.float()
        else:
            _float32_after_transformers(model)
        return cls(name, path, model, batch_size or _batch_size(model, device), dtype)

    @property
    def dimension(self) -> int:
        """See ``Encoder.dimension``."""
        width = self.model.get_embedding_dimension()
        if width is None:
            raise ModelError(f"model {self.name!r} does not report the dimension of its vectors")
        return int(width)

    @property
    def metric(self) -> Metric:
        """See ``Encoder.metric``."""
        metric = str(self.model.similarity_fn_name)
        if metric not in ("cosine", "dot"):
            raise ModelError(f"model {self.name!r} compares by {metric}; udr supports cosine and dot")
        return cast("Metric", metric)

    @property
    def settings(self) -> dict[str, Json]:
        """What it does with a text, but for its window and the weights of its first module.

        Its modules, each with its type, its settings and the hashes of its weights; the prompts; and the similarity.
        """
        modules: list[Json] = []
        module: Any
        for place, module in enumerate(self.model.children()):
            weights = module.state_dict().items() if place else ()
            hashes: Json = {name: sha256(weight.cpu().numpy()).hexdigest() for name, weight in weights}
            modules.append([type(module).__name__, module.get_config_dict(), hashes])
        return {"modules": modules, "prompts": self.model.prompts, "similarity": self.metric}

    @cached_property
    def window(self) -> TextWindow | None:
        """The longest text that it reads whole; None if it has no limit, or it is not known."""
        return TextWindow.of(self.model.max_seq_length, self.path)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_queries``."""
        tokenizer = self.query_tokenizer
        if tokenizer is None or not texts:
            return self._encode(self.model.encode_query, texts)
        import torch

        from udr.models.query_tokenizer import CPU_PADDING

        device = self.model.device
        # On a GPU, padding costs less than another batch.
        padding = CPU_PADDING if device.type == "cpu" else math.inf
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with torch.inference_mode():
            for positions, tokens in tokenizer.batches(texts, self.batch_size, padding):
                features = {name: torch.from_numpy(rows).to(device) for name, rows in tokens.items()}
                vectors[positions] = self.embed(features, tokenizer).cpu().numpy()
        return vectors

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        """See ``Encoder.encode_demonstrations``."""
        return self._encode(self.model.encode_document, texts)

    @cached_property
    def query_tokenizer(self) -> "QueryTokenizer | None":
        """The direct tokenizer of queries, or None if the model needs its own preprocessing.

        ``SentenceTransformer.encode`` inspects texts, arguments and modules in every call, which takes a tenth of a
        short text's time in torch, and a fifth in ONNX Runtime.
        """
        return self._direct_tokenizer("query")

    def direct_tokenizer(self, role: Role) -> "QueryTokenizer | None":
        """Return the direct tokenizer of a role's texts; see ``query_tokenizer``."""
        return self.query_tokenizer if role == "query" else self._direct_tokenizer(role)

    @property
    def has_two_towers(self) -> bool:
        """Whether queries and demonstrations take separate routes through the model."""
        from sentence_transformers.base.modules import Router

        return any(isinstance(module, Router) for module in self.model.modules())

    @property
    def pools_prompts(self) -> bool:
        """Whether the pooling counts the tokens of prompts, too."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        return all(module.include_prompt for module in self.model.modules() if isinstance(module, Pooling))

    def _direct_tokenizer(self, role: Role) -> "QueryTokenizer | None":
        from udr.models.query_tokenizer import direct_tokenizer

        first, prompts, task = self.model[0], self.model.prompts, _TASKS[role]
        # With two towers, the role's tower.
        towers = getattr(first, "sub_modules", {})
        tokenizer = getattr(towers[task][0] if task in towers else first, "tokenizer", None)
        fast = getattr(tokenizer, "backend_tokenizer", None)
        if fast is None:
            return None
        default = self.model.default_prompt_name or ""
        prompt = prompts.get(next((name for name in _PROMPTS[role] if name in prompts), default))
        prompted = partial(self.model.preprocess, prompt=prompt, task=task)
        return direct_tokenizer(fast, prompt or "", prompted)

    def embed(self, features: "dict[str, Tensor]", tokenizer: "QueryTokenizer", role: Role = "query") -> "Tensor":
        """Return the vectors of a role's tokenised texts, float32 [count, dimension], on the model's device."""
        from torch.nn.functional import normalize

        if self.model.training:
            self.model.eval()
        vectors = self.model({**features, **tokenizer.constants}, task=_TASKS[role])["sentence_embedding"]
        if self.model.truncate_dim is not None:
            vectors = vectors[:, : self.model.truncate_dim]
        return normalize(vectors, p=2, dim=1) if self.metric == "cosine" else cast("Tensor", vectors)

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = encode(
            list(texts),
            batch_size=self.batch_size,
            normalize_embeddings=self.metric == "cosine",
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _batch_size(model: "SentenceTransformer", device: str) -> int:
    """Return the texts per forward pass: on a GPU, a small one takes the time of starting it."""
    if device == "cpu" or not (window := model.max_seq_length):
        return _LEAST
    return max(_LEAST, min(_MOST, _TOKENS // window))


def _float32_after_transformers(model: "SentenceTransformer") -> None:
    from sentence_transformers.base.modules import Module, Router, Transformer

    def convert(_module: "nn.Module", _arguments: object, features: dict[str, Any]) -> dict[str, Any]:
        tensors = {name: value for name, value in features.items() if getattr(value, "is_floating_point", bool)()}
        return {**features, **{name: value.float() for name, value in tensors.items()}}

    for module in model.modules():
        if isinstance(module, Transformer):
            module.register_forward_hook(convert)
        elif isinstance(module, Module) and not isinstance(module, Router):
            module.float()
