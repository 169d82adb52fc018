"""Counts tokens and formats chats with Transformers; the only file of the core that imports it."""

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udr.errors import InvalidInputError, MissingExtraError, ModelError, optional_import, reason
from udr.models.counting.file_tokenizer import FileTokenizer
from udr.models.counting.token_counter import LoadedTokenizer, Message, not_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars that Transformers shows while the body loads a model from the disk."""
    from transformers.utils import logging

    # Not typed.
    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def context_window(folder: Path) -> int | None:
    """Return the longest sequence of the language model in a folder or GGUF file, in tokens; None if it has none.

    Raises:
        ModelError: there is no configuration that Transformers can read.
    """
    with optional_import("transformers", "index"):
        from transformers import AutoConfig
    gguf = {"gguf_file": folder.name} if folder.suffix == ".gguf" else {}
    try:
        config = AutoConfig.from_pretrained(str(folder.parent if gguf else folder), local_files_only=True, **gguf)
    except Exception as error:
        raise ModelError(f"model {folder}: Transformers cannot read its configuration: {reason(error)}") from error
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


class TransformersTokenizer(LoadedTokenizer):
    """A tokenizer of Transformers, fast or slow; it is not changed, and its truncation and padding have no effect."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str = "transformers") -> None:
        self.name = name
        # Transformers' types are too loose to check.
        self._tokenizer: Any = tokenizer
        # A copy, since each call sets the original's truncation and padding.
        self._backend: Any = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()

    @classmethod
    def open(cls, folder: Path, name: str) -> "TransformersTokenizer":
        """Open the tokenizer in a folder, or in a GGUF file; errors as ``load_tokenizer``."""
        with optional_import("transformers", "index"):
            from transformers import AutoTokenizer
        gguf = {"gguf_file": folder.name} if folder.suffix == ".gguf" else {}
        if gguf and find_spec("gguf") is None:
            raise MissingExtraError("gguf, which reads GGUF files,", "training")
        try:
            path = str(folder.parent if gguf else folder)
            return cls(AutoTokenizer.from_pretrained(path, local_files_only=True, **gguf), name)
        except Exception as error:
            # Depending on the tokenizer's class, anything from KeyError to bare Exception.
            raise ModelError(f"tokenizer {name!r}: Transformers cannot read {folder}: {reason(error)}") from error

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its class, its vocabulary and, for a fast tokenizer, its rules: 16 hex digits."""
        rules = self._backend.to_str() if self._backend is not None else None
        parts = [type(self._tokenizer).__name__, sorted(self._tokenizer.get_vocab().items()), rules]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @cached_property
    def _fast(self) -> FileTokenizer | None:
        # Transformers' own call is many times slower for short texts than its Rust tokenizer, if it has one.
        return None if self._backend is None else FileTokenizer(self.name, self._backend, self.fingerprint)

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts of its special tokens."""
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        return tuple(dict.fromkeys([*self._tokenizer.all_special_tokens, *added]))

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""
        return bool(self._tokenizer.chat_template)

    def render(self, messages: Sequence[Message]) -> str:
        """See ``LoadedTokenizer.render``."""
        text = self._rendered([dict(message) for message in messages])
        if (lost := _lost(text, messages)) is None:
            return text
        # Some templates loop over parts, as messages with images have them.
        parts = self._rendered(
            [{"role": item["role"], "content": [{"type": "text", "text": item["content"]}]} for item in messages]
        )
        if _lost(parts, messages) is None:
            return parts
        raise InvalidInputError(
            f"the chat template of tokenizer {self.name!r} leaves out the content of the {lost['role']} message that "
            f"begins {lost['content'][:40]!r}; use format 'text', or a tokenizer whose template shows every message"
        )

    def _rendered(self, chat: list[dict[str, Any]]) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # A template can raise any error, for instance that it has no system role.
            roles = ", ".join(message["role"] for message in chat)
            raise InvalidInputError(
                f"the chat template of tokenizer {self.name!r} rejects messages with the roles {roles}: "
                f"{reason(error)}; use format 'text', or a tokenizer without a chat template"
            ) from error

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """See ``LoadedTokenizer.counts_inside``."""
        return super().counts_inside(texts) if self._fast is None else self._fast.counts_inside(texts)

    def _count(self, text: str, *, special: bool) -> int:
        if self._fast is not None:
            return self._fast._count(text, special=special)
        try:
            return len(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        except (TypeError, UnicodeEncodeError) as error:
            raise not_text([text]) from error


def _lost(text: str, messages: Sequence[Message]) -> Message | None:
    """Return the first message whose content a rendering lacks; templates may strip spaces around it."""
    return next((message for message in messages if message["content"].strip() not in text), None)
