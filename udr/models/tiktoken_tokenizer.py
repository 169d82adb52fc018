"""Encodings of tiktoken, to count tokens, from local files: nothing is fetched. The one file that imports it."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from udr.errors import MissingExtraError, ModelError, reason
from udr.models.token_counter import Message

if TYPE_CHECKING:
    from tiktoken import Encoding

# The encodings whose tokens are one .tiktoken file of that name.
ENCODINGS = ("o200k_base", "cl100k_base", "p50k_base", "r50k_base")


class TiktokenTokenizer:
    """An encoding of tiktoken. Special tokens in data count as OpenAI's interface reads them: as plain text.

    Attributes:
        name: what it is called.
    """

    has_chat_template = False

    def __init__(self, encoding: "Encoding", name: str | None = None) -> None:
        """Wrap an encoding.

        Args:
            encoding: the object.
            name: what to call it; else its own name.
        """
        self.name, self._encoding = name or encoding.name, encoding

    @classmethod
    def open(cls, path: Path, name: str) -> "TiktokenTokenizer":
        """Open the encoding whose tokens a ``.tiktoken`` file holds; the file's name says which encoding it is.

        Raises:
            ModelError: the name is none of ``ENCODINGS``, or the file is not the one that OpenAI publishes by it.
            MissingExtraError: tiktoken is not installed.
        """
        try:
            import tiktoken
            import tiktoken_ext.openai_public as published
        except ImportError as error:
            raise MissingExtraError("tiktoken", "tiktoken") from error
        if path.stem not in ENCODINGS:
            raise ModelError(
                f"tokenizer {name!r}: the file's name must be that of an encoding, one of "
                f"{', '.join(f'{one}.tiktoken' for one in ENCODINGS)}; found {path.name}. Of another encoding, give "
                "the object: TiktokenTokenizer(encoding)"
            )
        try:
            return cls(tiktoken.Encoding(**_definition(getattr(published, path.stem), path)), name)
        except (ValueError, OSError) as error:
            raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the sha256 of its name and its tokens."""
        tokens = b"".join(len(token).to_bytes(4, "big") + token for token in self._encoding.token_byte_values())
        return hashlib.sha256(self._encoding.name.encode() + b"\n" + tokens).hexdigest()[:16]

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts that stand for special tokens where a caller lets them."""
        return tuple(sorted(self._encoding.special_tokens_set))

    def count(self, text: str) -> int:
        """Return the number of tokens of the text; nothing is added around it."""
        return len(self._encoding.encode_ordinary(text))

    def counts_inside(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        return [self.count(text) for text in texts]

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Refuse to count a chat: OpenAI's template is not published.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"tokenizer {self.name!r} has no chat template")


def _definition(published: Callable[[], dict[str, Any]], path: Path) -> dict[str, Any]:
    """Return tiktoken's own definition of an encoding, its tokens read from a file of ours instead of fetched."""

    def load(_address: str, expected_hash: str) -> dict[bytes, int]:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected_hash:
            raise ValueError(f"it is not the {path.name} that is published; fetch it again")
        tokens = (line.split() for line in data.splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in tokens}

    assert isinstance(published, FunctionType)
    local = FunctionType(published.__code__, {**published.__globals__, "load_tiktoken_bpe": load})
    definition: dict[str, Any] = local()
    return definition
