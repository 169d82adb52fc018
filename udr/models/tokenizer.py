"""Counts tokens with the ``tokenizers`` library; the only file that imports it to count."""

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
# Files from which Transformers can build a tokenizer without a tokenizer.json.
_SLOW_FILES = ("tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")

__all__ = ["ChatCounter", "FileTokenizer", "LoadedTokenizer", "TokenCounter", "load_tokenizer"]


class FileTokenizer:
    """The tokenizer of a ``tokenizer.json``; thread-safe.

    Attributes:
        name: its name, as requested.
        fingerprint: a hash of its file: 16 hex digits.
        special_tokens: the texts of its special tokens.
    """

    def __init__(
        self, name: str, tokenizer: "Tokenizer", fingerprint: str | None = None, render: Render | None = None
    ) -> None:
        """Wrap a tokenizer.

        Args:
            name: its name.
            tokenizer: its truncation and padding are turned off.
            fingerprint: the hash of its file.
            render: its chat template, if it has one.
        """
        self.fingerprint = fingerprint or _fingerprint(tokenizer.to_str().encode())
        # A sentence encoder's file truncates and pads to its window: every text would count as that many tokens.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name, self._tokenizer, self._render = name, tokenizer, render
        self.special_tokens = tuple(t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special)

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, including added special tokens ([CLS], BOS).

        Raises:
            InvalidInputError: the text contains a lone surrogate, which UTF-8 cannot encode.
        """
        return self._count(text, special=True)

    def count_inside(self, text: str) -> int:
        """Return the number of tokens of a text, without added special tokens; errors as ``count``."""
        return self._count(text, special=False)

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return ``count_inside`` of several texts, on all cores."""
        try:
            return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except TypeError as error:
            raise _lone_surrogate() from error

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""
        return self._render is not None

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Return the number of tokens of a chat, formatted by the template up to the start of the answer.

        Raises:
            ModelError: there is no chat template.
            InvalidInputError: the template rejects these messages, or a text is not valid Unicode.
        """
        if self._render is None:
            raise ModelError(f"tokenizer {self.name!r} has no chat template")
        return self._count(self._render(messages), special=False)

    def _count(self, text: str, *, special: bool) -> int:
        try:
            return len(self._tokenizer.encode(text, add_special_tokens=special))
        except TypeError as error:
            raise _lone_surrogate() from error


def load_tokenizer(name: str) -> LoadedTokenizer:
    """Load a tokenizer by name.

    Args:
        name: a folder with a ``tokenizer.json``, that file, ``package:NAME`` or a hub name; a folder with a tokenizer
            that only Transformers can read; or a tiktoken file, such as ``cl100k_base.tiktoken``.

    Raises:
        ModelError: there is no such tokenizer.
        MissingExtraError: its library is not installed.
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
        # The library raises bare Exception for an invalid file.
        raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error
    render = _renderer(path.parent, name) if path.name == _FILE and _has_template(path.parent) else None
    return FileTokenizer(name, tokenizer, _fingerprint(data), render)


def _renderer(folder: Path, name: str) -> Render:
    """Return the folder's chat template; Transformers, which imports for seconds, is loaded at the first chat."""

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


def _lone_surrogate() -> InvalidInputError:
    return InvalidInputError("a text is not valid Unicode: it contains a lone surrogate")


def _file(name: str, path: Path) -> Path:
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"tokenizer {name!r}: {path} contains no {_FILE}; name a folder that does, or the file itself")
    if file.suffix != ".json":
        raise ModelError(f"tokenizer {name!r}: {file.name} is not a {_FILE}; name a folder that contains one")
    return file
