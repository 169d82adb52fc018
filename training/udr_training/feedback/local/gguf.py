"""GGUF files, converted once to a cached fp32 Transformers folder."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from udr.errors import MissingExtraError, ModelError, reason
from udr.files import first_to_finish
from udr.models import cache_folder

_LOG = logging.getLogger(__name__)


def converted(path: Path, fingerprint: str) -> Path:
    """Return the folder with a file's fp32 weights and tokenizer.

    The first call converts the file into ``cache_folder()``, which takes seconds to minutes.

    Raises:
        ModelError: Transformers cannot read the file.
        MissingExtraError: the package gguf is not installed.
    """
    folder = cache_folder() / "gguf" / fingerprint
    if folder.is_dir():
        return folder
    _LOG.info("%s: converting to fp32 in %s", path.name, folder)
    with first_to_finish(folder) as staging:
        _convert(path, staging)
    return folder


def _convert(path: Path, folder: Path) -> None:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        quantized = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    except ImportError as error:
        raise MissingExtraError("gguf", "training") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: Transformers cannot read this GGUF: {reason(error)}") from error
    build: Any = AutoModelForCausalLM.from_config
    # Transformers refuses to save a model loaded from GGUF, although its weights are fp32.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = build(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    tokenizer.save_pretrained(str(folder))
    plain.save_pretrained(str(folder))
