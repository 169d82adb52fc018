"""Counts tokens with the ``tokenizers`` library; the only file that imports it to count."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlsplit

from udr.errors import ModelError, optional_import, reason
from udr.models import hub
from udr.models.counting.token_counter import LoadedTokenizer, Message, Render, lone_surrogate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from udr.models.counting.transformers_tokenizer import TransformersTokenizer

_Loaded = TypeVar("_Loaded")

_LONG = 2000  # characters
_SLICE = 32_768  # characters
_PORTION = 131_072  # characters
_BOUNDARY = re.compile(r"(?<=[^\W\d_])(?=\n)")
_ENDS = ("a", "of", "Two words", "été", "数")
_STARTS = ("\n", "\n\n", "\n\n\nTwo", "\n words", *("\n" + text for text in _ENDS))
_FILE = "tokenizer.json"
# Transformers can build a tokenizer from these without a tokenizer.json.
_SLOW_FILES = ("tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


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
            raise lone_surrogate() from error

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
            raise lone_surrogate() from error


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


def load_tokenizer(name: str) -> LoadedTokenizer:
    """Load a tokenizer by name.

    Args:
        name: whatever ``--lm`` takes: a folder, a GGUF file, ``package:NAME`` or a hub name; a server's URL stands for
            the model that it names. Besides, a ``tokenizer.json``, and for OpenAI's models ``gpt-4o``, ``o200k_base``
            or a file such as ``cl100k_base.tiktoken``.

    Raises:
        ModelError: there is no such tokenizer.
        MissingExtraError: its library is not installed.
    """
    from udr.models.counting.tiktoken_tokenizer import TiktokenTokenizer, encoding_of

    if _is_server(name):
        return _of_served_model(name, load_tokenizer)
    if not hub.is_local(name) and (encoding := encoding_of(name)) is not None:
        return TiktokenTokenizer.open_named(name, encoding)
    path = hub.locate(name)
    if path.suffix == ".gguf":
        converted = hub.converted_gguf(path)
        if (converted / _FILE).is_file():
            return _open(converted / _FILE, name)
        from udr.models.counting.transformers_tokenizer import TransformersTokenizer

        return TransformersTokenizer.open(path, name)
    if path.suffix == ".tiktoken" and path.is_file():
        return TiktokenTokenizer.open(path, name)
    if not (path / _FILE).is_file() and any((path / file).is_file() for file in _SLOW_FILES):
        from udr.models.counting.transformers_tokenizer import TransformersTokenizer

        return TransformersTokenizer.open(path, name)
    return _open(_file(name, path), name)


def check_tokenizer(name: str) -> None:
    """Raise as ``load_tokenizer`` does if there is no model or table of this name, before anything else is loaded."""
    from udr.models.counting.tiktoken_tokenizer import TiktokenTokenizer, encoding_of

    if _is_server(name):
        _of_served_model(name, check_tokenizer)
    elif not hub.is_local(name) and (encoding := encoding_of(name)) is not None:
        TiktokenTokenizer.open_named(name, encoding)
    else:
        hub.locate(name)


def _is_server(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _of_served_model(url: str, load: Callable[[str], _Loaded]) -> _Loaded:
    """Load the tokenizer of the model that a server's URL names, ``http://...?model=NAME``: a server shows none."""
    model = parse_qs(urlsplit(url).query).get("model", [""])[0]
    if not model:
        raise ModelError(
            f"tokenizer {url!r}: a server does not show its tokenizer; name the model: "
            "a folder, a hub name, or ?model=NAME"
        )
    try:
        return load(model)
    except ModelError as error:
        raise ModelError(f"{error}; a server does not show its tokenizer, so name its model's folder") from error


def _open(path: Path, name: str) -> FileTokenizer:
    with optional_import("tokenizers", "index"):
        from tokenizers import Tokenizer
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
        from udr.models.counting.transformers_tokenizer import TransformersTokenizer

        return TransformersTokenizer.open(folder, name)

    return lambda messages: opened().render(messages)


def _has_template(folder: Path) -> bool:
    if any((folder / file).is_file() for file in _TEMPLATE_FILES):
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _file(name: str, path: Path) -> Path:
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"tokenizer {name!r}: {path} contains no {_FILE}; name a folder that does, or the file itself")
    if file.suffix != ".json":
        raise ModelError(f"tokenizer {name!r}: {file.name} is not a {_FILE}; name a folder that contains one")
    return file
