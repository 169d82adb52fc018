"""The export of an encoder that an index version carries, so that services need no torch."""

import logging
import shutil
from pathlib import Path

from udr.errors import MissingExtraError, ModelError
from udr.models import SentenceEncoder, exported
from udr.store import ENCODER

_LOG = logging.getLogger(__name__)


def export(encoder: SentenceEncoder) -> Path | None:
    """Return the folder of an encoder's export; None, with one notice, if it cannot be exported here."""
    try:
        # onnxruntime compares the export with torch.
        return exported(encoder)
    except (MissingExtraError, ModelError) as error:
        _LOG.warning("the index does not carry its query engine, so services need torch: %s", error)
        return None


def copy_export(exported: Path, version: Path) -> None:
    """Copy an export into the folder of a version that is being made."""
    copy = version / ENCODER
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(exported, copy)
