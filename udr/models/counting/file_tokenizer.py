"""Counts tokens with the ``tokenizers`` library; the only file that imports it to count."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from udr.errors import ModelError, optional_import, reason
from udr.models.counting.token_counter import LoadedTokenizer, Message, Render, not_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONG = 2000  # characters
_SLICE = 32_768  # characters
_PORTION = 131_072  # characters
_BOUNDARY = re.compile(r"(?<=[^\W\d_])(?=\n)")
_ENDS = ("a", "of", "Two words", "été", "数")
_STARTS = ("\n", "\n\n", "\n\n\nTwo", "\n words", *("\n" + text for text in _ENDS))


class FileTokenizer(LoadedTokenizer):
    """The tokenizer of a ``tokenizer.json``, with its truncation and padding turned off; thread-safe."""

    def __init__(
        self, name: str, tokenizer: "Tokenizer", fingerprint: str | None = None, render: Render | None = None
    ) -> None:
        self._fingerprint = fingerprint or _fingerprint(tokenizer.to_str().encode())
        # A sentence encoder's file truncates and pads to its window: every text would count as that many tokens.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.name, self._tokenizer, self._render = name, tokenizer, render

    @classmethod
    def open(cls, path: Path, name: str, render: Render | None = None) -> "FileTokenizer":
        """Open a file; ``ModelError`` if it cannot be read. ``render`` formats chats, if there is a template."""
        with optional_import("tokenizers", "index"):
            from tokenizers import Tokenizer
        try:
            data = path.read_bytes()
            tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:
            # The library raises bare Exception for an invalid file.
            raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error
        return cls(name, tokenizer, _fingerprint(data), render)

    @property
    def fingerprint(self) -> str:
        """A hash of its file: 16 hex digits."""
        return self._fingerprint

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts of its special tokens."""
        return tuple(token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special)

    @property
    def has_chat_template(self) -> bool:
        """Whether it has a chat template."""
        return self._render is not None

    @cached_property
    def _cuts(self) -> bool:
        return tokenizes_slices_alike(self._tokenizer)

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """See ``LoadedTokenizer.counts_inside``; on all cores."""
        try:
            return [
                len(encoding)
                for some in _portions(texts)
                for encoding in self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
            ]
        except TypeError as error:
            raise not_text(texts) from error

    def render(self, messages: Sequence[Message]) -> str:
        """See ``LoadedTokenizer.render``."""
        return super().render(messages) if self._render is None else self._render(messages)

    def _count(self, text: str, *, special: bool) -> int:
        try:
            if len(text) <= _LONG:
                return len(self._tokenizer.encode(text, add_special_tokens=special))
            parts = slices(text) if self._cuts else [text]
            around = self._tokenizer.num_special_tokens_to_add(is_pair=False) if special else 0
            # A batch lets other threads run meanwhile, and needs half the time.
            return around + sum(
                len(self._tokenizer.encode_batch_fast([part], add_special_tokens=False)[0]) for part in parts
            )
        except TypeError as error:
            raise not_text([text]) from error


def _portions(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in portions of about ``_PORTION`` characters: each token takes a hundred bytes meanwhile."""
    start = size = 0
    for end, text in enumerate(texts):
        if size and size + len(text) > _PORTION:
            yield texts[start:end]
            start, size = end, 0
        size += len(text)
    yield texts[start:]


def slices(text: str) -> Iterator[str]:
    """Yield parts of about ``_SLICE`` characters, cut between a letter and a line break.

    A text without such places remains whole.
    """
    start = 0
    while (match := _BOUNDARY.search(text, start + _SLICE)) is not None:
        yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def tokenizes_slices_alike(tokenizer: "Tokenizer") -> bool:
    """Return whether the tokens of ``slices`` are those of the whole text.

    They are if the tokenizer splits a text there before it looks for tokens, and treats no start or end differently,
    as word pieces and byte-level pairs do. Tokenizers that read a text as one, as SentencePiece does, may merge over
    any place.
    """
    splitter, added = tokenizer.pre_tokenizer, tokenizer.get_added_tokens_decoder().values()
    if splitter is None or any("\n" in token.content for token in added):
        return False

    def split(text: str) -> list[str]:
        return [part for part, _ in splitter.pre_tokenize_str(text)]

    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return all(
        cut(end) + cut(start) == cut(end + start) for end, start in product(_ENDS, _STARTS) for cut in (split, tokens)
    )


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
