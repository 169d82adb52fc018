"""How a language model cuts texts into tokens, without the model itself."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from udr.errors import ModelError, reason
from udr.models import hub
from udr_training.feedback.local.gguf import converted
from udr_training.feedback.packing import Tokens

_CACHED = 100_000
"""Segments whose tokens are remembered: the rows of a task come again and again."""


class ModelTokenizer:
    """A language model's tokenizer and window.

    Attributes:
        context: the longest sequence that the model takes, in tokens.
        end: the token that ends a text, if there is one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        # Transformers types its tokenizers too loosely to be checked.
        self._tokenizer: Any = tokenizer
        self.context = context
        self.end: int | None = self._tokenizer.eos_token_id
        self._cache: dict[str, Tokens] = {}

    @classmethod
    def load(cls, name: str) -> "ModelTokenizer":
        """Open the tokenizer of the language model that ``name`` stands for.

        Raises:
            ModelError: the name leads nowhere, or to no tokenizer.
        """
        folder, _ = model_folder(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            return cls(tokenizer, longest_sequence(AutoConfig.from_pretrained(str(folder))))
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {name!r} has no tokenizer that can be loaded: {reason(error)}") from error

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt; segments are tokenised apart.

        Args:
            text: the segment.
            start: whether a prompt starts with it; then it begins with BOS where the tokenizer adds one.
        """
        key = f"{int(start)}{text}"
        if key not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._cache[key] = (*(self._bos() if start else ()), *ids)
        return self._cache[key]

    def text(self, tokens: Tokens) -> str:
        """Return the text of tokens, without the BOS that may stand at its beginning."""
        bos = self._bos()
        own = tokens[len(bos) :] if bos and tokens[:1] == bos else tokens
        return str(self._tokenizer.decode(own, clean_up_tokenization_spaces=False))

    def _bos(self) -> Tokens:
        ids = self._tokenizer("")["input_ids"]
        bos = self._tokenizer.bos_token_id
        return (bos,) if bos is not None and ids[:1] == [bos] else ()


def model_folder(name: str) -> tuple[Path, str]:
    """Return a language model's folder in the format of Transformers, GGUF converted, and its files' fingerprint.

    Raises:
        ModelError: the name leads nowhere, or to a GGUF that cannot be read.
    """
    path = hub.locate(name)
    fingerprint = hub.fingerprint(path)
    return (converted(path, fingerprint) if path.suffix == ".gguf" else path), fingerprint


def longest_sequence(config: Any) -> int:  # noqa: ANN401
    """Return the longest sequence, in tokens, that a model's configuration allows."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else 1 << 20
