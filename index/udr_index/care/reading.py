"""Reading a collection task by task and split by split, so that one that is wrong does not hide the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.errors import DataError, UnknownTaskError
from udr.pool import TaskFolder, open_collection, task_files
from udr.types import Row

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a collection that can be opened, and what is wrong with the others.

    Attributes:
        folders: by name, in the order of the names.
        errors: by name, or by the folder's where the name cannot be read; in that order.
    """

    folders: Mapping[str, TaskFolder]
    errors: Mapping[str, DataError]


def open_tasks(root: Path, names: Sequence[str] | None = None) -> Tasks:
    """Open each task below ``root`` by itself.

    Args:
        root: a collection, a family's folder or a task's folder.
        names: the tasks wanted; None for all.

    Raises:
        UnknownTaskError: a name is not among the tasks.
        ConfigError: there is no task at all.
    """
    try:
        collection = open_collection(root, names)
    except DataError:
        folders, errors = _open_one_by_one(root)
    else:
        folders, errors = dict(collection.tasks), {}
    known = sorted({*folders, *errors})
    for name in names or ():
        if name not in known:
            raise UnknownTaskError(f"unknown task {name!r}; there are {', '.join(known)}")
    wanted = known if names is None else sorted(set(names))
    return Tasks(
        {name: folders[name] for name in wanted if name in folders},
        {name: errors[name] for name in wanted if name in errors},
    )


def _open_one_by_one(root: Path) -> tuple[dict[str, TaskFolder], dict[str, DataError]]:
    folders: dict[str, TaskFolder] = {}
    errors: dict[str, DataError] = {}
    for path in task_files(root):
        name = path.parent.resolve().name
        try:
            folder = open_collection(path.parent, [name]).tasks[name]
        except DataError as error:
            errors.setdefault(name, error)
        else:
            if name in folders:
                message = f"{name!r} is also in {folders[name].path}; give one of them another name"
                errors[name] = DataError(message, path=path, field="name")
            else:
                folders[name] = folder
    return folders, errors


def splits_of(folder: TaskFolder) -> Iterator[str]:
    """Yield the splits that a task's folder holds a file of; ``train``, which it must hold, always."""
    for split in SPLITS:
        if split == "train" or folder.files(split):
            yield split


def read_split(folder: TaskFolder, split: str) -> list[Row] | DataError:
    """Return the rows of a split, in the file's order, or the error that reading them ended with."""
    try:
        return folder.rows(split)
    except DataError as error:
        return error
