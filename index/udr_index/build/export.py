"""The export of an encoder that an index version carries, so that services need no torch."""

import logging
import shutil
from pathlib import Path

from udr.errors import ConfigError, MissingExtraError, ModelError
from udr.models import EXACT, INT8, Runtime, SentenceEncoder, num_threads
from udr.store import ENCODER

_LOG = logging.getLogger(__name__)

# OpenVINO reads what is made for the first.
_ENGINES: tuple[str, ...] = (EXACT, INT8)


def check_engine(engine: str) -> None:
    """Raise ``ConfigError`` unless an index can carry its encoder for this engine."""
    if engine not in _ENGINES:
        raise ConfigError(f"an index carries its encoder for {' or '.join(_ENGINES)}; found {engine!r}")


def export(encoder: SentenceEncoder, engine: Runtime = EXACT) -> Path:
    """Return the folder of an encoder's export, which has just been compared with torch.

    Raises:
        ModelError: the model cannot be exported, or the export disagrees with torch.
        MissingExtraError: onnxruntime or the exporter is not installed.
    """
    # onnxruntime is an extra.
    from udr.models import exported, onnx_encoder

    # The export may have been made long ago, by another command.
    onnx_encoder(encoder, num_threads(), engine)
    return exported(encoder, engine)


def try_export(encoder: SentenceEncoder, engine: Runtime = EXACT) -> Path | None:
    """Return the folder of an encoder's export; None, with one notice, if it cannot be exported here.

    Raises:
        ModelError, MissingExtraError: the engine is not the default, so somebody asked for it, and it cannot be had.
    """
    if engine != EXACT:
        return export(encoder, engine)
    try:
        return export(encoder)
    except (MissingExtraError, ModelError) as error:
        _LOG.warning("the index does not carry its encoder for ONNX Runtime, so services need torch: %s", error)
        return None


def copy_export(exported: Path, version: Path) -> None:
    """Copy an export into the folder of a version that is being made."""
    copy = version / ENCODER
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(exported, copy)
