"""Tiny encoders: one with all that a Sentence-Transformers model can have, and some of other architectures."""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import manual_seed
from transformers import (
    AutoModel,
    Gemma3TextConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
)

from tests.tiny_models import WINDOW, byte_tokenizer, save_encoder

WIDTH = 24


def save_towers(folder: Path, seed: int = 0) -> Path:
    """Save a model whose queries and demonstrations go through towers of other weights, each with a prompt."""
    manual_seed(seed)
    towers = [_tower(folder.with_name(f"{folder.name}-{name}"), seed + place) for place, name in enumerate("qd", 1)]
    router = Router.for_query_document(query_modules=towers[0], document_modules=towers[1], default_route="document")
    prompts: Any = {"query": "ask: ", "document": "show: "}
    SentenceTransformer(modules=[router], prompts=prompts, device="cpu").save_pretrained(str(folder))
    return folder


def _tower(folder: Path, seed: int) -> list[Any]:
    return [
        *SentenceTransformer(str(save_encoder(folder, seed)), device="cpu").children(),
        Dense(32, WIDTH),
        Normalize(),
    ]


_SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.5}

# How each is pooled, and where its texts are padded.
_ARCHITECTURES: dict[str, tuple[PreTrainedConfig, str, str]] = {
    "xlm-roberta": (XLMRobertaConfig(**_SIZES, max_position_embeddings=300), "cls", "right"),
    "mpnet": (MPNetConfig(**_SIZES, max_position_embeddings=300), "mean", "right"),
    "modernbert": (
        ModernBertConfig(**_SIZES, cls_token_id=0, sep_token_id=1, local_attention=WINDOW),
        "cls",
        "right",
    ),
    "qwen3": (
        Qwen3Config(**_GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
        "lasttoken",
        "left",
    ),
    "gemma3": (
        Gemma3TextConfig(
            **_GROUPED,
            sliding_window=WINDOW,
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "full_attention"],
            use_bidirectional_attention=True,
        ),
        "mean",
        "right",
    ),
    "t5": (T5Config(vocab_size=258, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4), "mean", "right"),
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
