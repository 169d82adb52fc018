"""Counts tokens with tiktoken encodings from local tables; the only file that imports it."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from udr.errors import ModelError, optional_import, reason
from udr.models.counting.token_counter import LoadedTokenizer

if TYPE_CHECKING:
    from tiktoken import Encoding

# Encodings that have a .tiktoken file of the same name.
ENCODINGS = ("o200k_base", "cl100k_base", "p50k_base", "r50k_base")

_OPENAI = ("gpt-3.5", "gpt-4", "gpt-5", "chatgpt-", "o1", "o3", "o4")
"""What the names of OpenAI's models begin with."""

_PACKAGES = (("litellm", "litellm_core_utils/tokenizers"),)
"""Packages, and the folders in them, that hold tables as tiktoken's own cache does."""


class TiktokenTokenizer(LoadedTokenizer):
    """A tiktoken encoding; special tokens in data count as plain text, as in OpenAI's API.

    It has no chat template, since OpenAI's is not published.

    Attributes:
        message_tokens: about what OpenAI's models take for each message beside its content.
    """

    message_tokens = 4

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
            return cls(tiktoken.Encoding(**_definition(getattr(published, path.stem), lambda address: path)), name)
        except (ValueError, OSError) as error:
            raise ModelError(f"tokenizer {name!r}: {path} cannot be read: {reason(error)}") from error

    @classmethod
    def open_named(cls, name: str, encoding: str) -> "TiktokenTokenizer":
        """Open one of ``ENCODINGS`` whose table is at hand: in tiktoken's cache, or in a package that ships it.

        Raises:
            ModelError: the table is nowhere on this machine, or differs from the published one.
            MissingExtraError: tiktoken is not installed.
        """
        with optional_import("tiktoken", "tiktoken"):
            import tiktoken
            import tiktoken_ext.openai_public as published
        try:
            return cls(tiktoken.Encoding(**_definition(getattr(published, encoding), _table)), name)
        except LookupError as error:
            raise ModelError(
                f"tokenizer {name!r}: the table of {encoding} is not on this machine, and udr does not download it; "
                f"get {error.args[0]} and name the file, or let tiktoken download it once: "
                f"python -c \"import tiktoken; tiktoken.get_encoding('{encoding}')\""
            ) from error
        except (ValueError, OSError) as error:
            raise ModelError(f"tokenizer {name!r}: {reason(error)}") from error

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


def encoding_of(name: str) -> str | None:
    """Return the one of ``ENCODINGS`` that a name means, its own or that of a model of OpenAI; else None."""
    if name in ENCODINGS:
        return name
    if "/" in name:
        # A name on a hub, which may begin as one of OpenAI's models does.
        return None
    if find_spec("tiktoken") is None:
        # Whichever it is, it cannot be opened without tiktoken, which is then said.
        return ENCODINGS[0] if name.startswith(_OPENAI) else None
    from tiktoken.model import encoding_name_for_model

    try:
        encoding = encoding_name_for_model(name)
    except KeyError:
        return None
    # Such as "gpt2", which is a name on the Hugging Face hub, too.
    return encoding if encoding in ENCODINGS else None


def _table(address: str) -> Path:
    """Return the file of the table that is published at an address; LookupError if there is none."""
    name = hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    raise LookupError(address)


def _folders() -> Iterator[Path]:
    """Yield the folders that may hold tables under the names of tiktoken's cache."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    yield Path(tempfile.gettempdir()) / "data-gym-cache"
    for package, folder in _PACKAGES:
        # find_spec does not import the package.
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            yield Path(next(iter(spec.submodule_search_locations))) / folder


def _definition(published: Callable[[], dict[str, Any]], find: Callable[[str], Path]) -> dict[str, Any]:
    """Return tiktoken's definition of an encoding, with the tokens of a local file instead of a download.

    Args:
        published: what tiktoken defines it by.
        find: returns the file of the table at an address.
    """

    def load(address: str, expected_hash: str) -> dict[bytes, int]:
        data = find(address).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected_hash:
            raise ValueError(f"it is not the published {address.rpartition('/')[2]}; download it again")
        tokens = (line.split() for line in data.splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in tokens}

    assert isinstance(published, FunctionType)
    local = FunctionType(published.__code__, {**published.__globals__, "load_tiktoken_bpe": load})
    definition: dict[str, Any] = local()
    return definition
