"""A language model's tokenizer and window, without the model itself."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from udr.errors import ModelError, reason
from udr.models import hub
from udr_training.feedback.local.gguf import converted
from udr_training.feedback.packing import Tokens

_CACHED = 100_000
"""Segments whose tokens are cached, since a task's rows repeat."""


class ModelTokenizer:
    """A language model's tokenizer and window.

    Attributes:
        context: the longest sequence of the model, in tokens.
        end: the end-of-text token, if there is one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        # Transformers' types are too loose to check.
        self._tokenizer: Any = tokenizer
        self.context = context
        self.end: int | None = self._tokenizer.eos_token_id
        self._cache: dict[str, Tokens] = {}

    @classmethod
    def load(cls, name: str) -> "ModelTokenizer":
        """Load a language model's tokenizer by name.

        Raises:
            ModelError: there is no such model, or it has no tokenizer.
        """
        folder, _ = model_folder(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            return cls(tokenizer, longest_sequence(AutoConfig.from_pretrained(str(folder))))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {name!r} has no loadable tokenizer: {reason(error)}") from error

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of a segment of a prompt; each segment is tokenised on its own.

        Args:
            text: the segment.
            start: whether it starts the prompt; then it begins with BOS if the tokenizer adds one.
        """
        key = f"{int(start)}{text}"
        if key not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._cache[key] = (*(self._bos() if start else ()), *ids)
        return self._cache[key]

    def text(self, tokens: Tokens) -> str:
        """Return the text of tokens, without a leading BOS."""
        bos = self._bos()
        own = tokens[len(bos) :] if bos and tokens[:1] == bos else tokens
        return str(self._tokenizer.decode(own, clean_up_tokenization_spaces=False))

    def _bos(self) -> Tokens:
        ids = self._tokenizer("")["input_ids"]
        bos = self._tokenizer.bos_token_id
        return (bos,) if bos is not None and ids[:1] == [bos] else ()


def model_folder(name: str) -> tuple[Path, str]:
    """Return a language model's Transformers folder (a GGUF file is converted) and its fingerprint.

    Raises:
        ModelError: there is no such model, or its GGUF file cannot be read.
    """
    path = hub.locate(name)
    fingerprint = hub.fingerprint(path)
    return (converted(path, fingerprint) if path.suffix == ".gguf" else path), fingerprint


def longest_sequence(config: Any) -> int:  # noqa: ANN401
    """Return the longest sequence of a model, in tokens."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else 1 << 20
