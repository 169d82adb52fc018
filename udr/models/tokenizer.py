"""Counting tokens as a language model reads them. The one file that imports tokenizers, to count."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from udr.errors import InvalidInputError, MissingExtraError, ModelError, reason
from udr.models import hub
from udr.models.token_counter import ChatCounter, LoadedTokenizer, Message, Render, TokenCounter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from udr.models.transformers_tokenizer import TransformersTokenizer

_FILE = "tokenizer.json"
# What Transformers makes a tokenizer of where there is no tokenizer.json.
_SLOW_FILES = ("tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")

__all__ = ["ChatCounter", "FileTokenizer", "LoadedTokenizer", "TokenCounter", "load_tokenizer"]


class FileTokenizer:
    """The tokenizer of a ``tokenizer.json``; safe to share between threads.

    Attributes:
        name: the name it was asked for by.
        fingerprint: 16 hex digits of the sha256 of its file, or of what its file would hold.
        special_tokens: the texts that it reads as special tokens.
    """

    def __init__(
        self, name: str, tokenizer: "Tokenizer", fingerprint: str | None = None, render: Render | None = None
    ) -> None:
        """Wrap a tokenizer.

        Args:
            name: what to call it.
            tokenizer: it no longer cuts or pads from now on.
            fingerprint: that of its file.
            render: its chat template, where it has one.
        """
        self.fingerprint = fingerprint or _fingerprint(tokenizer.to_str().encode())
        # A sentence encoder's file cuts at its window and pads up to it (MiniLM's: 128 and 128): every text
        # would count as 128 tokens.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name, self._tokenizer, self._render = name, tokenizer, render
        self.special_tokens = tuple(t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special)

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, with those that are added around it ([CLS], BOS).

        Raises:
            InvalidInputError: the text holds half a surrogate pair, which no UTF-8 can say.
        """
        return self._count(text, special=True)

    def count_inside(self, text: str) -> int:
        """Return the number of tokens of a text alone, without those that are added around it; errors as ``count``."""
        return self._count(text, special=False)

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return ``count_inside`` of several texts, tokenised on all cores."""
        try:
            return [len(one) for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except TypeError as error:
            raise _half_a_pair() from error

    @property
    def has_chat_template(self) -> bool:
        """Whether it comes with a chat template."""
        return self._render is not None

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, with all that the template adds, up to where the answer begins.

        Raises:
            ModelError: there is no template.
            InvalidInputError: the template does not take these messages, or a text is not valid Unicode.
        """
        if self._render is None:
            raise ModelError(f"tokenizer {self.name!r} has no chat template")
        return self._count(self._render(messages), special=False)

    def _count(self, text: str, *, special: bool) -> int:
        try:
            return len(self._tokenizer.encode(text, add_special_tokens=special))
        except TypeError as error:
            raise _half_a_pair() from error


def load_tokenizer(name: str) -> LoadedTokenizer:
    """Load the tokenizer that ``name`` stands for (see ``udr.models``).

    Args:
        name: a folder with a ``tokenizer.json``, that file itself, ``package:NAME``, or a hub name; a folder with the
            files of a tokenizer that only Transformers can read; or a tiktoken file, such as ``cl100k_base.tiktoken``.

    Raises:
        ModelError: the name leads nowhere, or not to a tokenizer.
        MissingExtraError: the library that reads it is not installed.
    """
    path = hub.locate(name)
    if path.suffix == ".tiktoken" and path.is_file():
        from udr.models.tiktoken_tokenizer import TiktokenTokenizer

        return TiktokenTokenizer.open(path, name)
    if not (path / _FILE).is_file() and any((path / file).is_file() for file in _SLOW_FILES):
        from udr.models.transformers_tokenizer import TransformersTokenizer

        return TransformersTokenizer.open(path, name)
    return _open(_file(name, path), name)


def _open(path: Path, name: str) -> FileTokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "index") from error
    try:
        data = path.read_bytes()
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:
        # The library raises bare Exception for whatever is wrong with the file.
        raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error
    render = _renderer(path.parent, name) if path.name == _FILE and _has_template(path.parent) else None
    return FileTokenizer(name, tokenizer, _fingerprint(data), render)


def _renderer(folder: Path, name: str) -> Render:
    """Return the folder's chat template. Transformers, which takes seconds to import, is loaded at the first chat."""

    @cache
    def opened() -> "TransformersTokenizer":
        from udr.models.transformers_tokenizer import TransformersTokenizer

        return TransformersTokenizer.open(folder, name)

    return lambda messages: opened().render(messages)


def _has_template(folder: Path) -> bool:
    if any((folder / file).is_file() for file in _TEMPLATE_FILES):
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _half_a_pair() -> InvalidInputError:
    return InvalidInputError("a text is not valid Unicode: it holds half of a surrogate pair")


def _file(name: str, path: Path) -> Path:
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"tokenizer {name!r}: {path} holds no {_FILE}; name a folder that does, or the file itself")
    if file.suffix != ".json":
        raise ModelError(f"tokenizer {name!r}: {file.name} is no {_FILE}; name a folder that holds one")
    return file
