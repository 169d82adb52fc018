"""Reading a collection task by task and split by split, so that an invalid one does not hide the others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from udr.data import (
    Task,
    TaskFolder,
    copy_text,
    folder_names,
    input_text,
    no_row,
    open_collection,
    rows_and_errors,
    task_files,
    text_key,
    value_text,
)
from udr.errors import DataError, UnknownTaskError
from udr.types import Row
from udr_index.quality.findings import Finding, Kind

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a collection that can be opened, and the errors of the others; both sorted by folder name."""

    folders: Mapping[str, TaskFolder]
    errors: Mapping[str, DataError]


def open_tasks(root: Path, names: Sequence[str] | None = None) -> Tasks:
    """Open each task of a collection, a family's folder or a task's folder by itself; without names, all tasks.

    An error of several together, such as two instructions of a family, is that of the one beside the file that it
    names, else of the first.

    Raises:
        DataError: a task of a folder on a remote store is invalid.
        UnknownTaskError: a name is not among the tasks.
        ConfigError: there is no task at all.
    """
    together: DataError | None = None
    try:
        collection = open_collection(root, names)
    except DataError as error:
        folders, errors = _open_one_by_one(root)
        if not folders and not errors:
            raise
        together = None if errors else error
    else:
        folders, errors = dict(collection.tasks), {}
    known = sorted({*folders, *errors})
    for name in names or ():
        if name not in known:
            raise UnknownTaskError(f"unknown task {name!r}; the tasks are {', '.join(known)}")
    wanted = known if names is None else sorted(set(names))
    if together is not None:
        place = together.path and together.path.parent
        errors[next((name for name in wanted if folders[name].path.parent == place), wanted[0])] = together
    return Tasks(
        {name: folders[name] for name in wanted if name in folders},
        {name: errors[name] for name in wanted if name in errors},
    )


def _open_one_by_one(root: Path) -> tuple[dict[str, TaskFolder], dict[str, DataError]]:
    folders: dict[str, TaskFolder] = {}
    errors: dict[str, DataError] = {}
    for path in task_files(root):
        try:
            tasks = open_collection(path.parent).tasks.values()
        except DataError as error:
            errors.setdefault(folder_names(path.parent)[0], error)
        else:
            (folder,) = (folder for folder in tasks if folder.path == path.parent)
            name = folder.task.name
            if name in folders:
                message = f"{name!r} is also in {folders[name].path}; rename one of them"
                errors[name] = DataError(message, path=path, field="name")
            else:
                folders[name] = folder
    return folders, errors


def read_splits(folder: TaskFolder) -> Iterator[tuple[str, list[Row], list[DataError]]]:
    """Yield the name of each split that has a file, its valid rows in the file's order, and the errors of the others.

    Every task must have ``train``, so it is always among them.
    """
    for name in SPLITS:
        if name == "train" or folder.files(name):
            rows, errors = list[Row](), list[DataError]()
            try:
                path = folder.file(name)
                for _, row in rows_and_errors(folder.task, path, distinct=True):
                    if isinstance(row, DataError):
                        errors.append(row)
                    else:
                        rows.append(row)
                if not rows and not errors:
                    errors.append(no_row(folder.task, path))
            except DataError as error:
                # The file is missing, or cannot be read any further.
                errors.append(error)
            yield name, rows, errors


@dataclass(frozen=True)
class Split:
    """A task's rows of one split, in the file's order; at least one."""

    task: Task
    name: str
    rows: Sequence[Row]

    @cached_property
    def inputs(self) -> list[str]:
        """The rows' inputs as models read them, without the instruction."""
        return [input_text(self.task, row.input, row.choices) for row in self.rows]

    @cached_property
    def copies(self) -> Mapping[bytes, Sequence[int]]:
        """The positions of rows by a hash of what their copies share, as retrieval excludes copies.

        Rows whose fields are all blank are left out.
        """
        copies: dict[bytes, list[int]] = {}
        for position, row in enumerate(self.rows):
            if len(self.blank_fields(row)) < len(self.task.fields):
                copies.setdefault(text_key(copy_text(self.task, row)), []).append(position)
        return copies

    def blank_fields(self, row: Row) -> list[str]:
        """Return the fields of the input template that have no text in this row."""
        return [name for name in self.task.fields if name in row.input and not value_text(row.input[name]).strip()]

    def ids(self, positions: Sequence[int]) -> tuple[str, ...]:
        """Return the ids of the rows at these positions."""
        return tuple(self.rows[position].id for position in positions)

    def part(self, number: int, verbs: str = "has/have") -> str:
        """Return a number of the rows: ``1 of 9 rows has``, ``2 of 9 rows have``."""
        singular, plural = verbs.split("/")
        return f"{number} of {len(self.rows)} rows {singular if number == 1 else plural}"

    def finding(
        self,
        kind: Kind,
        count: int,
        message: str,
        groups: Sequence[tuple[str, ...]] = (),
        against: str | None = None,
        labels: Sequence[str] = (),
    ) -> Finding:
        """Return a finding about this split."""
        return Finding(self.task.name, self.name, kind, message, count, tuple(groups), against, tuple(labels))
