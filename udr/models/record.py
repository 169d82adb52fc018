"""What the folder of an encoder that ``udr train`` has trained records of it."""

import json
from pathlib import Path
from typing import Any

from udr.data import ENCODER_WORDING
from udr.errors import ModelError
from udr.files import check_format

RECORD, RECORD_FORMAT = "udr.json", 1
"""The file in a trained model's folder that records its encoder wording and tasks, and the file's format."""


def check_wording(name: str, folder: Path) -> None:
    """Raise ``ModelError`` if a model was trained with another encoder wording; ``name`` is what errors call it."""
    record = folder / RECORD
    try:
        keys = _read(folder) or {"encoder_wording": ENCODER_WORDING}
        wording, found = keys.get("encoder_wording"), keys.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"model {name!r}: {record} must be a JSON object; train the model again") from error
    check_format(found, RECORD_FORMAT, f"model {name!r}: {record}", "udr train", ModelError)
    if wording != ENCODER_WORDING:
        raise ModelError(
            f"model {name!r} was trained with the encoder wording {wording}, but this version of udr uses "
            f"{ENCODER_WORDING}; train it again, or use the version of udr that trained it"
        )


def trained_tasks(folder: Path) -> list[str]:
    """Return the names of the tasks that ``udr train`` has trained the encoder of a folder on; none if not known."""
    tasks = _read(folder).get("tasks")
    return tasks if isinstance(tasks, list) else []


def _read(folder: Path) -> dict[str, Any]:
    """Return the content of the record; empty without one."""
    record = folder / RECORD
    return json.loads(record.read_bytes()) if record.is_file() else {}
