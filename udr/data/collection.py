"""Collections: folders of tasks, the files of their rows, and their pools."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from udr.data.records import SUFFIXES
from udr.data.rows import read_rows
from udr.data.sampling import sample
from udr.data.task import Task, TaskFamily, parse_family, parse_task
from udr.errors import ConfigError, DataError, UnknownTaskError, listed
from udr.files import cache_folder, canonical_json, fetched, read_toml, remote_url
from udr.types import Row


@dataclass(frozen=True, slots=True)
class Pool:
    """A task and its demonstrations, sorted by id; ``DataError`` if there are none, or two have the same id."""

    task: Task
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"the pool of task {self.task.name!r} is empty; it needs at least one row")
        rows = tuple(sorted(self.rows, key=lambda row: row.id))
        for row, following in pairwise(rows):
            if row.id == following.id:
                raise DataError(f"two rows of the pool of task {self.task.name!r} have the id {row.id!r}", field="id")
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows)


def row_text(row: Row) -> str:
    """Return a row as the index stores it."""
    return json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pool_digest(pool: Pool) -> str:
    """Return a hash of a pool's task and rows: 16 hex digits."""
    return rows_digest(pool.rows, b"\n" + canonical_json(pool.task.to_json()))


def rows_digest(rows: Iterable[Row], start: bytes = b"") -> str:
    """Return a hash of rows, which depends on their order and on ``start``: 16 hex digits."""
    digest = hashlib.sha256(start)
    for row in rows:
        digest.update(b"\n" + row_text(row).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A task, the folder that holds its splits, and its family, which another task's folder may describe."""

    task: Task
    path: Path
    family: TaskFamily

    def files(self, split: str) -> list[Path]:
        """Return the files of a split; a valid task folder has one."""
        return [path for suffix in SUFFIXES if (path := self.path / f"{split}{suffix}").is_file()]

    def file(self, split: str) -> Path:
        """Return the file of ``train``, ``validation`` or ``test``; ``DataError`` if there is not exactly one."""
        files = self.files(split)
        if len(files) != 1:
            names = " and ".join(path.name for path in files) or "none"
            needed = ", ".join(f"{split}{suffix}" for suffix in SUFFIXES)
            raise DataError(f"needs one of {needed}; found {names}", path=self.path)
        return files[0]

    def rows(self, split: str) -> list[Row]:
        """Return the rows of a split, in its file's order; ``DataError`` if there are none, or one is invalid."""
        path = self.file(split)
        rows = list(read_rows(self.task, path))
        if not rows:
            raise no_row(self.task, path)
        return rows

    def pool(self, size: int | None = None, seed: int = 0) -> Pool:
        """Return the training rows as a pool; a seeded sample of ``size`` rows if there are more."""
        return Pool(self.task, tuple(sample(self.rows("train"), size, seed)))


@dataclass(frozen=True, slots=True)
class Collection:
    """The tasks under one folder, by name in the requested order or sorted, and their families, by name."""

    root: Path
    tasks: Mapping[str, TaskFolder]
    families: Mapping[str, TaskFamily]


def open_collection(root: Path, names: Sequence[str] | None = None) -> Collection:
    """Read the ``task.toml`` files at most two folders below ``root``, and the ``family.toml`` files beside them.

    Folders whose names start with a dot are skipped.
    ``names`` selects tasks; None opens all. A folder on a remote store is copied to this machine, once for each state.

    Raises:
        ArtifactError: the remote store cannot be reached, or has no such folder.
        DataError: a file is invalid, a task's folder has another name, two tasks have the same name, or two files give
            a family different instructions.
        UnknownTaskError: there is no task with one of the names.
        ConfigError: there is no task.
    """
    if (url := remote_url(root)) is not None:
        root = fetched(url, cache_folder() / "tasks")
    if root.is_file():
        command = f"udr init {shlex.quote(str(root))} --out tasks"
        raise ConfigError(f"{root}: is a file, not a folder of tasks; make a task of it with: {command}")
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder of tasks; udr init makes one of a table")
    found: dict[str, tuple[Task, Path]] = {}
    for path in task_files(root):
        task = parse_task(read_toml(path), path)
        if task.name not in (names_of := folder_names(path.parent)):
            raise DataError(f"is {task.name!r}, but the folder is named {names_of[0]!r}", path=path, field="name")
        if task.name in found:
            raise DataError(f"{task.name!r} is also in {found[task.name][1]}", path=path, field="name")
        found[task.name] = task, path.parent
    if not found:
        raise ConfigError(f"{root}: contains no task.toml, at most two folders deep")
    names = sorted(found) if names is None else names
    for name in names:
        if name not in found:
            raise UnknownTaskError(f"unknown task {name!r}; the tasks are {listed(sorted(found), len(found))}")
    families = _families(found.values())
    tasks = {name: TaskFolder(*found[name], families[found[name][0].family]) for name in names}
    return Collection(root, tasks, {folder.family.name: folder.family for folder in tasks.values()})


def task_files(root: Path) -> Iterator[Path]:
    """Yield the ``task.toml`` files at most two folders below ``root``, the nearest first; hidden folders are skipped.

    A killed command leaves what it was making, or replacing, in a hidden folder.
    """
    for depth in ("", "[!.]*/", "[!.]*/[!.]*/"):
        yield from sorted(root.glob(f"{depth}task.toml"))


def folder_names(folder: Path) -> tuple[str, str]:
    """Return a folder's name, and that of the folder that it links to; the same if it is no link."""
    return Path(os.path.abspath(folder)).name, folder.resolve().name


def _families(found: Iterable[tuple[Task, Path]]) -> dict[str, TaskFamily]:
    """Return the families by name: each by the ``family.toml`` beside one of its tasks, whichever has one."""
    families, paths = dict[str, TaskFamily](), dict[str, Path]()
    for task, folder in found:
        name, path = task.family, folder.parent / "family.toml"
        if not path.is_file():
            families.setdefault(name, TaskFamily(name, name.replace("_", " ").replace("-", " ")))
            continue
        family = parse_family(read_toml(path), name, path)
        if name in paths and family != families[name]:
            message = f"family {name!r} has another instruction in {paths[name]}; give both files the same"
            raise DataError(message, path=path, field="instruction")
        families[name], paths[name] = family, path
    return families


def no_row(task: Task, path: Path) -> DataError:
    """Return the error for a file without rows."""
    return DataError(f"contains no rows; task {task.name!r} needs at least one", path=path)
