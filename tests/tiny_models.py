"""Tiny random models in real formats: a causal language model and an encoder, each saved to a folder."""

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, which starts every text with BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: number for number, letter in enumerate(alphabet, start=2)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrap: Any = PreTrainedTokenizerFast
    return cast("PreTrainedTokenizerFast", wrap(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"))


WINDOW = 24
"""The tokens that the local layers of tiny models look back."""

_RANDOM: dict[str, Any] = {"vocab_size": 258, "initializer_range": 0.5}
# Of the byte tokenizer; some models' own lie outside its vocabulary, of which Transformers warns.
_ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
_NEOX: dict[str, Any] = {
    **_RANDOM,
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
}
_LLAMA: dict[str, Any] = {**_NEOX, "num_key_value_heads": 2}
_WINDOWED: dict[str, Any] = {**_LLAMA, "max_position_embeddings": 512, "sliding_window": WINDOW}
_GEMMA: dict[str, Any] = {**_WINDOWED, "head_dim": 8, "query_pre_attn_scalar": 8}
_GPT2: dict[str, Any] = {**_RANDOM, **_ENDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
_GPT_NEO: dict[str, Any] = {
    **{**_RANDOM, **_ENDS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 512},
    **{"window_size": WINDOW, "attention_types": [[["global", "local"], 1]]},
}
_ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_LLAMA),
    # InternLM is Llama with biases.
    "internlm": LlamaConfig(**_LLAMA, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**_WINDOWED),
    "qwen2": Qwen2Config(**_WINDOWED, use_sliding_window=True, max_window_layers=1),
    "qwen3": Qwen3Config(**_LLAMA, head_dim=8),
    "gemma2": Gemma2Config(**_GEMMA),
    "gemma3": Gemma3TextConfig(**_GEMMA, layer_types=["sliding_attention", "full_attention"]),
    "phi3": Phi3Config(**_WINDOWED, **_ENDS, pad_token_id=0),
    "gpt2": GPT2Config(**_GPT2),
    "gpt_neo": GPTNeoConfig(**_GPT_NEO),
    "gpt_neox": GPTNeoXConfig(**_NEOX),
}
ARCHITECTURES = sorted(_ARCHITECTURES)


def tiny_llama(seed: int = 0, context: int = 512) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(max_position_embeddings=context, **_LLAMA))


def tiny_gpt2(seed: int = 0, context: int = 512) -> PreTrainedModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**{**_GPT2, "n_positions": context}))


def tiny_lm(architecture: str, seed: int = 0, **changes: int) -> PreTrainedModel:
    """A random model of one of ``ARCHITECTURES``; local layers look back fewer than ``WINDOW`` tokens."""
    torch.manual_seed(seed)
    config = deepcopy(_ARCHITECTURES[architecture])
    config.update(changes)
    build: Any = AutoModelForCausalLM.from_config
    return cast("PreTrainedModel", build(config))


def save_lm(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """Save a causal language model with the byte tokenizer, in the format of Transformers."""
    (model or tiny_llama()).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """Save a random BERT with mean pooling as a Sentence-Transformers model."""
    torch.manual_seed(seed)
    bert = folder.with_name(f"{folder.name}-bert")
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 256}
    BertModel(BertConfig(vocab_size=258, num_hidden_layers=1, num_attention_heads=2, **sizes)).save_pretrained(bert)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(bert)
    transformer = Transformer(str(bert))
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[transformer, pooling]).save_pretrained(str(folder))
    return folder
