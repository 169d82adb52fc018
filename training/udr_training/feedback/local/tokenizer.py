"""A language model's tokenizer and window, without the model itself, and the conversion of GGUF files."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from udr.errors import MissingExtraError, ModelError, reason
from udr.files import first_to_finish
from udr.models import hub
from udr_training.feedback.packing import Tokens

_LOG = logging.getLogger(__name__)

_CACHE_SIZE = 100_000
"""Segments whose tokens are cached, since a task's rows repeat."""


class ModelTokenizer:
    """A language model's tokenizer and window.

    Attributes:
        context: the longest sequence of the model, in tokens.
        end: the end-of-text token, if there is one.
        ends: the tokens that end an answer: this one, and those of instruct models that end a turn.

    Args:
        tokenizer: of Transformers.
        context: the longest sequence of the model, in tokens.
        ends: what ends an answer by the model's settings. Only special tokens count: where nothing is set, as in GGUF
            files, the number is that of the architecture's first model, and a letter in this tokenizer.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context: int, ends: int | Sequence[int] | None = None
    ) -> None:
        # Transformers' types are too loose to check.
        self._tokenizer: Any = tokenizer
        self.context = context
        self.end: int | None = self._tokenizer.eos_token_id
        special = {number for number, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        self.ends = {self.end} | special.intersection(ends if isinstance(ends, Sequence) else [ends])
        self._cache: dict[str, Tokens] = {}
        line_break, after = self._ids("\n"), self._ids("\na")
        # Tokenizers as Llama 2's begin every text with a space, which a prompt has only at its beginning.
        spaced = after[: len(line_break)] == line_break and after[len(line_break) :] != self._ids("a")
        self._skipped = line_break if spaced else []

    @classmethod
    def load(cls, name: str) -> "ModelTokenizer":
        """Load a language model's tokenizer by name.

        Raises:
            ModelError: there is no such model, or it has no tokenizer.
        """
        folder, _ = model_folder(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            return cls(tokenizer, longest_sequence(AutoConfig.from_pretrained(str(folder), local_files_only=True)))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {name!r} has no loadable tokenizer: {reason(error)}") from error

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt; the first begins with BOS if the tokenizer adds one.

        If the tokenizer begins every text with a space, the others get the tokens that they have after a line break.
        """
        key = f"{int(start)}{text}"
        if key not in self._cache:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = (*self._bos(), *self._ids(text)) if start else tuple(self._inner_ids(text))
        return self._cache[key]

    def _inner_ids(self, text: str) -> list[int]:
        if not self._skipped:
            return self._ids(text)
        ids, count = self._ids(f"\n{text}"), len(self._skipped)
        # A text that begins with a line break may share its token with the one before.
        return ids[count:] if ids[:count] == self._skipped else self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def text(self, tokens: Tokens) -> str:
        """Return the text of tokens, without a leading BOS."""
        bos = self._bos()
        without_bos = tokens[len(bos) :] if bos and tokens[:1] == bos else tokens
        return str(self._tokenizer.decode(without_bos, clean_up_tokenization_spaces=False))

    def _bos(self) -> Tokens:
        ids = self._tokenizer("")["input_ids"]
        bos = self._tokenizer.bos_token_id
        return (bos,) if bos is not None and ids[:1] == [bos] else ()


def model_folder(name: str) -> tuple[Path, str]:
    """Return a language model's Transformers folder and its fingerprint.

    The first call for a GGUF file converts it to fp32 in ``cache_folder()``, which takes seconds to minutes.

    Raises:
        ModelError: there is no such model, it is no language model, or Transformers cannot read its GGUF file.
        MissingExtraError: the model is a GGUF file, and the package gguf is not installed.
    """
    path = hub.locate_lm(name)
    fingerprint = hub.fingerprint(path)
    if path.suffix != ".gguf":
        return path, fingerprint
    folder = hub.converted_gguf(path)
    if not folder.is_dir():
        _LOG.info("converting %s, once for all later runs, which takes up to minutes...", path.name)
        with first_to_finish(folder) as staging:
            _convert_gguf(path, staging)
    return folder, fingerprint


def _convert_gguf(path: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), local_files_only=True, gguf_file=path.name)
        quantized = AutoModelForCausalLM.from_pretrained(
            str(path.parent), local_files_only=True, gguf_file=path.name, dtype=torch.float32
        )
    except ImportError as error:
        raise MissingExtraError("gguf", "training") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: Transformers cannot read this GGUF: {reason(error)}") from error
    # Transformers refuses to save a model loaded from GGUF, although its weights are fp32.
    config: Any = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    build: Any = AutoModelForCausalLM.from_config
    plain = build(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    tokenizer.save_pretrained(str(folder))
    plain.save_pretrained(str(folder))


def longest_sequence(config: Any) -> int:  # noqa: ANN401
    """Return the longest sequence of a model, in tokens."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else 1 << 20
