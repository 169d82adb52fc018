"""Tiny encoders: one with two towers, prompts and further layers, and some of other architectures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import manual_seed
from transformers import (
    AutoModel,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
)

from tests.tiny_models import WINDOW, byte_tokenizer, save_encoder
from udr.models import SentenceEncoder
from udr.search import Vectors

WIDTH = 24


def save_towers(folder: Path, seed: int = 0) -> Path:
    """Save a model with different towers and prompts for queries and demonstrations."""
    manual_seed(seed)
    towers = [_tower(folder.with_name(f"{folder.name}-{name}"), seed + number) for number, name in enumerate("qd", 1)]
    router = Router.for_query_document(query_modules=towers[0], document_modules=towers[1], default_route="document")
    prompts: Any = {"query": "ask: ", "document": "show: "}
    SentenceTransformer(modules=[router], prompts=prompts, device="cpu").save_pretrained(str(folder))
    return folder


def _tower(folder: Path, seed: int) -> list[Any]:
    transformer = SentenceTransformer(str(save_encoder(folder, seed)), device="cpu")
    return [*transformer.children(), Dense(32, WIDTH), Normalize()]


def load(name: str | Path) -> SentenceEncoder:
    return SentenceEncoder.load(str(name), device="cpu")


def own_vectors(encoder: SentenceEncoder, texts: Sequence[str]) -> Vectors:
    """Return the vectors of queries by Sentence-Transformers itself."""
    unit = encoder.metric == "cosine"
    vectors = encoder.model.encode_query(list(texts), normalize_embeddings=unit, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


_TOKENS: dict[str, Any] = {"vocab_size": 258, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1}
_SIZES = _TOKENS | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.5}
_T5: dict[str, Any] = {"vocab_size": 258, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_MODERN = _SIZES | {"cls_token_id": 0, "sep_token_id": 1, "local_attention": WINDOW}
_QWEN = _GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
_GEMMA = _GROUPED | {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "use_bidirectional_attention": True}
_GEMMA |= {"layer_types": ["sliding_attention", "full_attention"]}

# The configuration, the pooling and the side of padding.
_ARCHITECTURES: dict[str, tuple[PreTrainedConfig, str, str]] = {
    "xlm-roberta": (XLMRobertaConfig(**_SIZES, max_position_embeddings=300), "cls", "right"),
    "mpnet": (MPNetConfig(**_SIZES, max_position_embeddings=300), "mean", "right"),
    "modernbert": (ModernBertConfig(**_MODERN), "cls", "right"),
    "qwen3": (Qwen3Config(**_QWEN), "lasttoken", "left"),
    "gemma3": (Gemma3TextConfig(**_GEMMA), "mean", "right"),
    "llama": (LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True), "mean", "right"),
    "gpt_neox": (GPTNeoXConfig(**_SIZES, hidden_dropout=0.3, attention_dropout=0.3), "mean", "right"),
    "phi3": (Phi3Config(**_GROUPED), "mean", "right"),
    "t5": (T5Config(**_T5), "mean", "right"),
}


def save_architecture(folder: Path, architecture: str) -> Path:
    """Save a random encoder of one of ``_ARCHITECTURES``."""
    manual_seed(0)
    config, pooling, side = _ARCHITECTURES[architecture]
    bare = folder.with_name(f"{folder.name}-bare")
    build: Any = T5EncoderModel if architecture == "t5" else AutoModel.from_config
    build(config).save_pretrained(bare)
    tokenizer: Any = byte_tokenizer()
    tokenizer.pad_token, tokenizer.model_max_length, tokenizer.padding_side = "</s>", 256, side
    tokenizer.save_pretrained(bare)
    pooled: Any = Pooling(32, pooling)
    SentenceTransformer(modules=[Transformer(str(bare)), pooled], device="cpu").save_pretrained(str(folder))
    return folder
