"""The new collection of questions with their worked solutions, and the trees that they were found in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tomli_w

from udr.data import Metric, TaskFolder, row_text
from udr.errors import DataError
from udr.files import canonical_json, read_toml
from udr.types import Json, Row
from udr_training.pool.new_collection import new_collection, task_path, write_lines, write_records
from udr_training.pool.synthesis.solving import HOW
from udr_training.pool.synthesis.tree import Tree

_KEYS = ("steps", "correct_paths", "paths", "difficulty")


def check_metadata(folder: TaskFolder, questions: Sequence[Row]) -> None:
    """Raise ``DataError`` if the metadata of a question has a key that its solution would overwrite."""
    for row in questions:
        if taken := [key for key in _KEYS if key in row.metadata]:
            raise DataError(
                f"row {row.id!r} has the metadata {', '.join(taken)}, which a worked solution would overwrite "
                f"({', '.join(_KEYS)}); rename the key",
                path=folder.file("train"),
            )


def summary(trees: Sequence[Tree]) -> dict[str, int]:
    """Return the numbers of questions, of those solved, of solutions, of different right ones, and of tokens."""
    return {
        "questions": len(trees),
        "solved": sum(bool(tree.solved) for tree in trees),
        "paths": sum(tree.root.paths for tree in trees),
        "correct_paths": sum(len(tree.solved) for tree in trees),
        "generated_tokens": sum(tree.tokens for tree in trees),
    }


def write_solved(
    folder: TaskFolder,
    worked: Sequence[Row],
    questions: Sequence[Row],
    trees: Sequence[Tree],
    report: Mapping[str, Json],
    out: Path,
) -> Path:
    """Write a collection with the worked rows and the solved questions, and return the task's folder in it.

    Beside them are ``trees.jsonl``, ``unsolved.jsonl`` and ``synthesis.json``, the report.

    Args:
        folder: the task.
        worked: rows that have a solution already, which stay as they are.
        questions: rows without one.
        trees: the solutions found.
        report: what to say about the search.
        out: the collection.

    Raises:
        DataError: there is neither a worked row nor a solved question.
        ConfigError: ``out`` exists.
    """
    searched = list(zip(questions, trees, strict=True))
    rows = [*worked, *(_solved(row, tree) for row, tree in searched if tree.solved)]
    if not rows:
        raise DataError(
            f"none of the {len(questions)} questions of task {folder.task.name!r} was solved, so there is nothing to "
            f"write; raise {'--solution-tokens' if report.get('cut') else '--tries'}, or ask a more capable model"
        )
    source = folder.file("train")
    with new_collection(folder, out) as target:
        (target / "task.toml").write_text(_task_toml(folder), "utf-8")
        write_lines(target / "train.jsonl", map(row_text, rows), source)
        write_records(target / "trees.jsonl", ({"id": row.id, **tree.to_json()} for row, tree in searched), source)
        unsolved: Iterator[dict[str, Json]] = (
            {"id": row.id, "paths": tree.root.paths} for row, tree in searched if not tree.solved
        )
        write_records(target / "unsolved.jsonl", unsolved, source)
        (target / "synthesis.json").write_bytes(canonical_json(dict(report), indent=1))
    return out / task_path(folder)


def _solved(row: Row, tree: Tree) -> Row:
    steps = tree.best()
    found: tuple[Json, ...] = list(steps), len(tree.solved), tree.root.paths, round(tree.difficulty, 4)
    # References are final answers, of which any is right.
    metadata = {**row.metadata, **dict(zip(_KEYS, found, strict=True))}
    return replace(row, target="\n".join(steps), metadata=metadata)


def _task_toml(folder: TaskFolder) -> str:
    """Return the text of ``task.toml`` for targets that end with the final answer."""
    path = folder.path / "task.toml"
    if folder.task.metric is Metric.FINAL_ANSWER:
        return path.read_text("utf-8")
    keys = read_toml(path)
    return tomli_w.dumps(
        {**keys, "metric": Metric.FINAL_ANSWER.value, "instruction": f"{folder.task.instruction} {HOW}"}
    )
