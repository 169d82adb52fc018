"""Counting tokens as a language model reads them. The one file that imports tokenizers."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from udr import models
from udr.errors import InvalidInputError, MissingExtraError, ModelError, reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILE = "tokenizer.json"


class TokenCounter(Protocol):
    """Anything that can tell how many tokens a text is."""

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, with those that are added around it ([CLS], BOS)."""


class FileTokenizer:
    """The tokenizer of a ``tokenizer.json``; safe to share between threads.

    Attributes:
        name: the name it was asked for by.
    """

    def __init__(self, name: str, tokenizer: "Tokenizer") -> None:
        # A sentence encoder's file cuts at its window and pads up to it (MiniLM's: 128 and 128): every text
        # would count as 128 tokens.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name, self._tokenizer = name, tokenizer

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, with those that are added around it ([CLS], BOS).

        Raises:
            InvalidInputError: the text holds half a surrogate pair, which no UTF-8 can say.
        """
        try:
            return len(self._tokenizer.encode(text).ids)
        except TypeError as error:
            raise InvalidInputError("a text is not valid Unicode: it holds half of a surrogate pair") from error


def load_tokenizer(name: str) -> TokenCounter:
    """Load the tokenizer that ``name`` stands for (see ``udr.models``).

    Args:
        name: a folder with a ``tokenizer.json``, that file itself, ``package:NAME``, or a hub name.

    Raises:
        ModelError: the name leads nowhere, or not to a tokenizer.
        MissingExtraError: tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "index") from error
    path = _file(name, models.locate(name))
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises bare Exception for whatever is wrong with the file.
        raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error
    return FileTokenizer(name, tokenizer)


def _file(name: str, path: Path) -> Path:
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"tokenizer {name!r}: {path} holds no {_FILE}; name a folder that does, or the file itself")
    if file.suffix != ".json":
        raise ModelError(f"tokenizer {name!r}: {file.name} is no {_FILE}; name a folder that holds one")
    return file
