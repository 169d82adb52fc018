"""Writing a new collection with other rows of a task's pool."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from udr.data import TaskFolder
from udr.files import refuse_existing, whole_folder, write_atomically
from udr.types import Json

_COPIED = ("validation", "test")


@contextmanager
def new_collection(folder: TaskFolder, out: Path) -> Iterator[Path]:
    """Yield the folder of a task in a new collection, to which the body adds the pool; it appears if the body succeeds.

    The task's description, and the rows of validation and test, are copied as they are; the family keeps its
    instruction, whichever folder describes it. Others may do with each copy at most what they may do with its source.

    Raises:
        ConfigError: ``out`` exists.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as staging:
        target = staging / task_path(folder)
        target.mkdir(parents=True)
        for path in (folder.path / "task.toml", *(path for split in _COPIED for path in folder.files(split))):
            write_atomically(target / path.name, path.read_bytes(), path)
        (target.parent / "family.toml").write_text(tomli_w.dumps({"instruction": folder.family.instruction}), "utf-8")
        yield target


def task_path(folder: TaskFolder) -> Path:
    """Return the path of a task's folder in its collection."""
    return Path(folder.task.family, folder.task.name)


def write_lines(path: Path, lines: Iterable[str], source: Path) -> None:
    """Write lines of text made of a file, for others no more readable than that file."""
    write_atomically(path, lambda stream: stream.writelines(f"{line}\n".encode() for line in lines), source)


def write_records(path: Path, records: Iterable[Mapping[str, Json]], source: Path) -> None:
    """Write records made of a file as JSONL, for others no more readable than that file."""
    write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records), source)
