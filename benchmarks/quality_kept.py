"""The figures of ``quality.py`` in one small file without texts, so that a comparison can go on in another folder.

It holds the settings; the rows of each task; the values of each retriever and task, by test row or by resample, and
what they are of: a digest of the trained encoder, or of the index; the facts of each training; and which tasks have
label heads. Retrievers in the folder are named relative to it. What is null is not known, and not compared.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from answers import estimate_of, of_task
from quality_calls import POOL, SEED
from quality_gains import Values, over_rows

from udr.data import Collection, pool_digest, rows_digest, sample
from udr.files import canonical_json, locked, write_atomically
from udr_training.evaluation import Estimate

_LOCK_SECONDS = 60.0
_IDENTITY = ("model", "version", "weights")
_ROWS = ("pool_rows", "test_rows")


class Kept:
    """What was measured; each method that adds to it writes the file.

    Args:
        path: the file, which need not exist; None keeps nothing.
        folder: the folder of the comparison.
        settings: what all figures depend on, by option; a file with other ones is refused.
    """

    def __init__(self, path: Path | None, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.folder, self._settings = path, folder, dict(settings)
        found = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
        if found and (others := _others(found.get("settings", {}), self._settings)):
            raise SystemExit(f"{path}: has figures of other settings: {others}; give those, or another --kept")
        self._rows: dict[str, Any] = found.get("tasks", {})
        self._values: dict[str, dict[str, Any]] = found.get("values", {})
        self._facts: dict[str, Any] = found.get("facts", {})

    def name(self, retriever: object) -> str:
        """Return the name of a retriever wherever the folder is."""
        return str(retriever).removeprefix(f"{self.folder}/")

    def claim(self, collection: Collection) -> None:
        """Exit if there are figures of other rows than those of a collection."""
        for task, folder in collection.tasks.items():
            tested = sample(folder.rows("test"), self._settings["rows"], SEED)
            self._claim(task, {"pool_rows": pool_digest(folder.pool(POOL, SEED)), "test_rows": rows_digest(tested)})

    def _claim(self, task: str, rows: Mapping[str, str]) -> None:
        if self._rows.setdefault(task, rows) not in (None, rows):
            raise SystemExit(
                f"{self.path or self.folder}: has figures of {task} with other rows than these; give another --kept"
            )

    def claim_retriever(self, retriever: str, identity: Mapping[str, Any]) -> str:
        """Return the digest of a retriever by its ``identity`` in answers; exit if there are figures of another one."""
        name, of = self.name(retriever), {key: identity[key] for key in _IDENTITY if key in identity}
        digest = hashlib.sha256(canonical_json(of)).hexdigest()[:16]
        if {own.get("of") for own in self._values.get(name, {}).values()} - {None, digest}:
            raise SystemExit(
                f"{self.path or self.folder}: has figures of a {name} that was trained or built otherwise than that of "
                "the folder; remove one of the two, or give another --kept"
            )
        return digest

    def missing(self, retriever: str, tasks: Iterable[str]) -> list[str]:
        """Return the tasks of which a retriever has no value."""
        return [task for task in tasks if task not in self._values.get(self.name(retriever), {})]

    def fact(self, name: str, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what is told of a training or of heads, which is measured once."""
        if name not in self._facts:
            self._facts[name] = dict(measure())
            self._write()
        return dict(self._facts[name])

    def knows(self, name: str) -> bool:
        """Return whether there is such a fact."""
        return name in self._facts

    def take(self, collection: Collection, predictions: Path, retriever: str) -> None:
        """Add the values of a retriever's predictions."""
        own = self._values.setdefault(self.name(retriever), {})
        for task, folder in collection.tasks.items():
            (found,) = of_task(predictions.parent, folder, [retriever])
            self._claim(task, {name: found.made_from[name] for name in _ROWS})
            of = self.claim_retriever(retriever, found.made_from["retriever"])
            own[task] = {"of": of, **_shortened(estimate_of(folder, found))}
        self._write()

    def take_from(self, other: "Kept", retrievers: Iterable[str], tasks: Iterable[str]) -> None:
        """Add the values of retrievers and tasks that another file has."""
        self._rows |= {task: other._rows[task] for task in tasks if task in other._rows}
        for name in map(self.name, retrievers):
            found = other._values.get(name, {})
            self._values.setdefault(name, {}).update({task: found[task] for task in tasks if task in found})
        self._write()

    def values(self, retriever: str) -> Values:
        """Return the values of a retriever by task."""
        return {task: _estimate(own, task) for task, own in self._values.get(self.name(retriever), {}).items()}

    def _write(self) -> None:
        if self.path is None:
            return
        with locked(self.path.parent, _LOCK_SECONDS):
            # Another comparison may have added some.
            found = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
            self._facts = {**found.get("facts", {}), **self._facts}
            self._rows = {**found.get("tasks", {}), **self._rows}
            others = found.get("values", {})
            self._values = {
                name: {**others.get(name, {}), **self._values.get(name, {})} for name in {**others, **self._values}
            }
            kept = {"settings": self._settings, "tasks": self._rows, "values": self._values, "facts": self._facts}
            text = json.dumps(kept, separators=(",", ":"))
            # A line for each retriever and task, so that a change shows what was added.
            write_atomically(self.path, text.replace("},", "},\n").encode() + b"\n")


def _others(kept: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    names = [name for name in {**settings, **kept} if kept.get(name) != settings.get(name)]
    return ", ".join(f"{name} {kept.get(name, 'not stated')}, not {settings.get(name)}" for name in names)


def _shortened(estimate: Estimate) -> dict[str, Any]:
    if estimate.rows is not None:
        return {"rows": _numbers(estimate.rows, 3)}
    assert estimate.samples is not None
    return {"value": round(estimate.value, 4), "samples": _numbers(estimate.samples, 2)}


def _numbers(values: Sequence[float] | np.ndarray[Any, Any], digits: int) -> list[float]:
    rounded = [round(float(value), digits) for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]


def _estimate(kept: Mapping[str, Any], task: str) -> Estimate:
    if "rows" in kept:
        return over_rows(Estimate.of_rows(np.array(kept["rows"], dtype=float)), task)
    return Estimate.of_samples(kept["value"], np.array(kept["samples"]))
