"""Tiny random models in real formats: a causal language model and an encoder, each saved to a folder."""

from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, which begins every text with BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: number for number, letter in enumerate(alphabet, start=2)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrap: Any = PreTrainedTokenizerFast
    return cast("PreTrainedTokenizerFast", wrap(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"))


_LLAMA_SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
}


def tiny_llama(seed: int = 0, context: int = 512) -> PreTrainedModel:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(max_position_embeddings=context, **_LLAMA_SIZES))


def tiny_mistral(window: int, seed: int = 0, context: int = 512) -> PreTrainedModel:
    """As ``tiny_llama``, but no token sees farther back than ``window``."""
    torch.manual_seed(seed)
    return MistralForCausalLM(MistralConfig(max_position_embeddings=context, sliding_window=window, **_LLAMA_SIZES))


def tiny_gpt2(seed: int = 0, context: int = 512) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=258, n_embd=32, n_layer=2, n_head=4, n_positions=context, initializer_range=0.5)
    return GPT2LMHeadModel(config)


def save_lm(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """Save a causal language model with the byte tokenizer; any tool of Transformers opens it."""
    (model or tiny_llama()).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """Save a random BERT with mean pooling as a Sentence-Transformers model."""
    torch.manual_seed(seed)
    bert = folder.with_name(f"{folder.name}-bert")
    config = BertConfig(
        vocab_size=258,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(bert)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "</s>"
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(bert)
    transformer = Transformer(str(bert))
    SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")]).save_pretrained(
        str(folder)
    )
    return folder
