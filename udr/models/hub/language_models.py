"""Whether a model's files are those of a language model, before anything is loaded."""

import json
from pathlib import Path

from udr.errors import ModelError
from udr.models.hub.names import DEFAULT_LM, locate

_WRITES = ("CausalLM", "LMHead", "ConditionalGeneration")
"""What Transformers' classes of models that write text are named after."""

_REMEDY = f"name a language model, such as {DEFAULT_LM}"


def locate_lm(name: str) -> Path:
    """Return the folder, or the GGUF file, of a language model; nothing is loaded.

    Args:
        name: see ``locate``.

    Raises:
        ModelError: there is no such model, or its files are not a language model's.
    """
    path = locate(name)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"model {name!r}: is a file, and no GGUF file; {_REMEDY}")
        return path
    refuse_encoder(name, path)
    if not (path / "config.json").is_file() and (path / "adapter_config.json").is_file():
        remedy = "merge it with its base (peft: merge_and_unload), save the merged model, and name that folder"
        raise ModelError(f"model {name!r}: {path} holds an adapter, such as LoRA's, and no whole model; {remedy}")
    if not (path / "config.json").is_file():
        files = sorted(file.name for file in path.glob("*.gguf"))
        remedy = f"name one of its files: {', '.join(f'{name}/{file}' for file in files)}" if files else _REMEDY
        raise ModelError(f"model {name!r}: {path} is not a language model; it has no config.json; {remedy}")
    return path


def refuse_encoder(name: str, folder: Path) -> None:
    """Raise ``ModelError`` if a folder holds an encoder, or another model that does not continue a text."""
    if (folder / "modules.json").is_file() or (folder / "model" / "modules.json").is_file():
        what = "an encoder of Sentence Transformers"
    else:
        config = _config(folder)
        named = config.get("architectures")
        classes = list(map(str, named)) if isinstance(named, list) else []
        if config.get("is_encoder_decoder") is True:
            what = f"a model of encoder and decoder ({', '.join(classes) or 'by its config.json'})"
        elif classes and not any(part in kind for kind in classes for part in _WRITES):
            what = ", ".join(classes)
        else:
            return
    raise ModelError(f"model {name!r}: is {what}, which does not continue a text; {_REMEDY}")


def _config(folder: Path) -> dict[str, object]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        # What is loaded from it says what is wrong.
        return {}
    return config if isinstance(config, dict) else {}
