"""Loading tokenizers by name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from udr.errors import ModelError
from udr.models import hub
from udr.models.counting.file_tokenizer import FileTokenizer
from udr.models.counting.token_counter import LoadedTokenizer, Render

if TYPE_CHECKING:
    from udr.models.counting.tiktoken_tokenizer import TiktokenTokenizer
    from udr.models.counting.transformers_tokenizer import TransformersTokenizer

_FILE = "tokenizer.json"
# Transformers can build a tokenizer from these without a tokenizer.json.
_SLOW_FILES = ("tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def load_tokenizer(name: str | Path) -> LoadedTokenizer:
    """Load a tokenizer by name.

    Args:
        name: whatever ``--lm`` takes: a folder, a GGUF file, ``package:NAME`` or a hub name; a server's URL stands for
            the model that it names. Besides, a ``tokenizer.json``, and for OpenAI's models ``gpt-4o``, ``o200k_base``
            or a file such as ``cl100k_base.tiktoken``.

    Raises:
        ModelError: there is no such tokenizer.
        MissingExtraError: its library is not installed.
    """
    name = str(name)
    with _model_of(name) as model:
        found = _locate(model)
        return _open_at(found, model) if isinstance(found, Path) else found


def check_tokenizer(name: str) -> None:
    """Raise as ``load_tokenizer`` does if there is no model or table of this name, before anything else is loaded."""
    with _model_of(name) as model:
        _locate(model)


@contextmanager
def _model_of(name: str) -> Iterator[str]:
    """Yield a name; of a server's URL, ``http://...?model=NAME``, that of its model, since a server shows none."""
    if not name.startswith(("http://", "https://")):
        yield name
        return
    model = parse_qs(urlsplit(name).query).get("model", [""])[0]
    if not model:
        raise ModelError(
            f"tokenizer {name!r}: a server does not show its tokenizer; name the model: "
            "a folder, a hub name, or ?model=NAME"
        )
    try:
        yield model
    except ModelError as error:
        raise ModelError(f"{error}; a server does not show its tokenizer, so name its model's folder") from error


def _locate(name: str) -> "Path | TiktokenTokenizer":
    """Return the file or folder of a tokenizer, or one of OpenAI's."""
    from udr.models.counting.tiktoken_tokenizer import TiktokenTokenizer, encoding_of

    if not hub.is_local(name) and (encoding := encoding_of(name)) is not None:
        return TiktokenTokenizer.open_named(name, encoding)
    return hub.locate(name)


def _open_at(path: Path, name: str) -> LoadedTokenizer:
    from udr.models.counting.tiktoken_tokenizer import TiktokenTokenizer
    from udr.models.counting.transformers_tokenizer import TransformersTokenizer

    if path.suffix == ".gguf":
        converted = hub.converted_gguf(path) / _FILE
        return _open(converted, name) if converted.is_file() else TransformersTokenizer.open(path, name)
    if path.suffix == ".tiktoken" and path.is_file():
        return TiktokenTokenizer.open(path, name)
    if not (path / _FILE).is_file() and any((path / file).is_file() for file in _SLOW_FILES):
        return TransformersTokenizer.open(path, name)
    return _open(_file(name, path), name)


def _open(path: Path, name: str) -> FileTokenizer:
    has_template = path.name == _FILE and _has_template(path.parent)
    return FileTokenizer.open(path, name, _renderer(path.parent, name) if has_template else None)


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


def _file(name: str, path: Path) -> Path:
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"tokenizer {name!r}: {path} contains no {_FILE}; name a folder that does, or the file itself")
    if file.suffix != ".json":
        raise ModelError(f"tokenizer {name!r}: {file.name} is not a {_FILE}; name a folder that contains one")
    return file
