"""The folder of tasks that the checkpoint is trained on: copies of the frozen ones, and views of them.

A view asks for the same texts in another way: code for its comment in place of a comment for code, or an answer in its
own words in place of a choice. Tasks that free licences allow are few, and most of them have labels or choices.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from udr.data import Task, TaskFolder, open_collection, parse_task
from udr.files import read_toml, write_atomically
from udr.types import Row

_SPLITS = ("train", "validation", "test")


def trained_names(frozen: Mapping[str, Any]) -> list[str]:
    """Return the tasks that are trained on, views last."""
    return [*frozen["trained"], *frozen.get("views", {})]


def with_views(root: Path, out: Path, frozen: Mapping[str, Any]) -> Path:
    """Write OUT/tasks, the same each time, and return it; exit if a view does not fit its source."""
    made = out / "tasks"
    for folder in open_collection(root, list(frozen["trained"])).tasks.values():
        shutil.copytree(folder.path, made / folder.path.relative_to(root), dirs_exist_ok=True)
        views = {name: view for name, view in frozen.get("views", {}).items() if view["of"] == folder.task.name}
        for name, view in views.items():
            _write(made / view["family"] / name, folder, name, dict(view))
    return made


def _write(to: Path, source: TaskFolder, name: str, view: dict[str, Any]) -> None:
    turned = view.pop("turned", False)
    del view["of"]
    stated = read_toml(source.path / "task.toml").get("source", {})
    task = parse_task({"name": name, **view})
    if turned and (len(task.fields), len(source.task.fields)) != (1, 1):
        raise SystemExit(f"the view {name}, which is turned, and {source.task.name} need one field each; mend the view")
    if not turned and task.fields != source.task.fields:
        raise SystemExit(f"the view {name} needs the fields of {source.task.name}, or turned = true; mend the view")
    to.mkdir(parents=True, exist_ok=True)
    write_atomically(to / "task.toml", tomli_w.dumps({"name": name, **view, "source": stated}).encode())
    for split in filter(source.files, _SPLITS):
        once = dict[tuple[str, ...], Row]()
        for row in source.rows(split):
            seen = _seen(row, task, turned)
            # A turned view may have the same input twice.
            once.setdefault(tuple(seen.input.values()), seen)
        lines = [json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in once.values()]
        write_atomically(to / f"{split}.jsonl", "".join(lines).encode())


def _seen(row: Row, task: Task, turned: bool) -> Row:
    """Return a row of the source as the view has it."""
    if not turned:
        return replace(row, choices=())
    (text,) = row.input.values()
    return Row(id=row.id, input={task.fields[0]: row.target}, target=text)
