"""Counts tokens with tiktoken encodings from local files; the only file that imports it."""

import base64
import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from udr.errors import ModelError, optional_import, reason
from udr.models.token_counter import LoadedTokenizer

if TYPE_CHECKING:
    from tiktoken import Encoding

# Encodings that have a .tiktoken file of the same name.
ENCODINGS = ("o200k_base", "cl100k_base", "p50k_base", "r50k_base")


class TiktokenTokenizer(LoadedTokenizer):
    """A tiktoken encoding; special tokens in data count as plain text, as in OpenAI's API.

    It has no chat template, since OpenAI's is not published.
    """

    def __init__(self, encoding: "Encoding", name: str | None = None) -> None:
        self.name, self._encoding = name or encoding.name, encoding

    @classmethod
    def open(cls, path: Path, name: str) -> "TiktokenTokenizer":
        """Open one of ``ENCODINGS`` by its file's name, if the file equals the published one."""
        with optional_import("tiktoken", "tiktoken"):
            import tiktoken
            import tiktoken_ext.openai_public as published
        if path.stem not in ENCODINGS:
            names = ", ".join(f"{encoding}.tiktoken" for encoding in ENCODINGS)
            raise ModelError(
                f"tokenizer {name!r}: the file's name must be one of {names}; found {path.name}; "
                "for another encoding, use TiktokenTokenizer(encoding)"
            )
        try:
            return cls(tiktoken.Encoding(**_definition(getattr(published, path.stem), path)), name)
        except (ValueError, OSError) as error:
            raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its name and tokens: 16 hex digits."""
        tokens = b"".join(len(token).to_bytes(4, "big") + token for token in self._encoding.token_byte_values())
        return hashlib.sha256(self._encoding.name.encode() + b"\n" + tokens).hexdigest()[:16]

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts of its special tokens."""
        return tuple(sorted(self._encoding.special_tokens_set))

    def _count(self, text: str, *, special: bool) -> int:
        # An encoding adds no special tokens.
        return len(self._encoding.encode_ordinary(text))


def _definition(published: Callable[[], dict[str, Any]], path: Path) -> dict[str, Any]:
    """Return tiktoken's definition of an encoding, with the tokens of a local file instead of a download."""

    def load(_address: str, expected_hash: str) -> dict[bytes, int]:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != expected_hash:
            raise ValueError(f"it is not the published {path.name}; download it again")
        tokens = (line.split() for line in data.splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in tokens}

    assert isinstance(published, FunctionType)
    local = FunctionType(published.__code__, {**published.__globals__, "load_tiktoken_bpe": load})
    definition: dict[str, Any] = local()
    return definition
