"""Tokenizers of Transformers, to count tokens and to word chats. The one file of the core that imports it."""

import copy
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udr.errors import InvalidInputError, MissingExtraError, ModelError, reason
from udr.models.token_counter import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersTokenizer:
    """A tokenizer as Transformers has it, fast or slow.

    Attributes:
        name: what it is called.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str = "transformers") -> None:
        """Wrap a tokenizer, which stays as it is: that it may cut or pad has no say in a count.

        Args:
            tokenizer: the object.
            name: what to call it.
        """
        self.name = name
        # Transformers types its tokenizers too loosely to be checked.
        self._tokenizer: Any = tokenizer
        # Where there is one, the Rust tokenizer counts: Transformers' own call costs many times a short text. It is
        # a copy, as the original cuts and pads as whoever used it last has asked.
        self._fast: Any = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()

    @classmethod
    def open(cls, folder: Path, name: str) -> "TransformersTokenizer":
        """Open the tokenizer in a folder.

        Raises:
            ModelError: Transformers cannot read it.
            MissingExtraError: Transformers, or a library that it needs for this tokenizer, is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "index") from error
        try:
            return cls(AutoTokenizer.from_pretrained(str(folder), local_files_only=True), name)
        except Exception as error:
            # Depending on the tokenizer's class, anything from KeyError to bare Exception.
            raise ModelError(f"tokenizer {name!r}: Transformers cannot read {folder}: {reason(error)}") from error

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the sha256 of its class, its vocabulary and, where it is a fast one, all its rules."""
        rules = self._fast.to_str() if self._fast is not None else None
        parts = [type(self._tokenizer).__name__, sorted(self._tokenizer.get_vocab().items()), rules]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts that it reads as special tokens."""
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        return tuple(dict.fromkeys([*self._tokenizer.all_special_tokens, *added]))

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, with those that are added around it ([CLS], BOS).

        Raises:
            InvalidInputError: the text holds half a surrogate pair, which no UTF-8 can say.
        """
        return self._count(text, special=True)

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without those that are added around it; errors as ``count``."""
        return [self._count(text, special=False) for text in texts]

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""
        return bool(self._tokenizer.chat_template)

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, with all that the template adds, up to where the answer begins.

        Raises:
            InvalidInputError: the template does not take these messages, or a text is not valid Unicode.
        """
        return self._count(self.render(messages), special=False)

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text that the chat template makes of messages, up to where the answer begins.

        Raises:
            InvalidInputError: the template does not take these messages.
        """
        try:
            said = [dict(message) for message in messages]
            return str(self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # A template raises what it likes, such as that it knows no system role.
            roles = ", ".join(message["role"] for message in messages)
            raise InvalidInputError(
                f"the chat template of tokenizer {self.name!r} does not take messages of the roles {roles}: "
                f"{reason(error)}; ask for a text, or count by a tokenizer without a template"
            ) from error

    def _count(self, text: str, *, special: bool) -> int:
        try:
            if self._fast is not None:
                return len(self._fast.encode(text, add_special_tokens=special))
            return len(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidInputError("a text is not valid Unicode: it holds half of a surrogate pair") from error
