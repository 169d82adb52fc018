"""The indexes of ``quality.py``: the pools of the evaluation for each retriever, with label heads."""

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from quality_calls import POOL, SEED, call

from udr.data import Collection, Kind, open_collection, rows_digest
from udr.files import write_atomically
from udr.models import fingerprint, locate
from udr.store import IndexVersion, open_version


@dataclass(frozen=True, slots=True)
class Headed:
    """An index with label heads, the tasks that have one (maybe none), and the minutes of building it."""

    index: Path
    tasks: tuple[str, ...]
    minutes: float


def labelled(collection: Collection) -> list[str]:
    """Return the names of the tasks with labels."""
    return [name for name, folder in collection.tasks.items() if folder.task.kind is Kind.CLASSIFICATION]


def with_head(arguments: argparse.Namespace, name: str, model: str, run: Path | None = None) -> Headed:
    """Index the pools of the classification tasks with label heads, once.

    Args:
        arguments: of the benchmark.
        name: of the retriever; the index is ``indexes/<name>``.
        model: its encoder.
        run: the run directory whose watched queries set the weights of hybrid searches; then the index has all tasks.
    """
    collection = open_collection(arguments.tasks, arguments.names.split(","))
    names = list(collection.tasks) if run else labelled(collection)
    if not names:
        return Headed(arguments.out, (), 0.0)
    index = arguments.out / "indexes" / name
    done = index.with_name(f"{name}.json")
    settings = {"label_head": arguments.label_head, "weighed": run is not None}
    if not (done.exists() and index.exists()):
        started = time.monotonic()
        # Without export, queries are encoded by the same model as in the arm without a head.
        call(
            *("index", "build", arguments.tasks, "--tasks", ",".join(names), "--out", index, "--model", model),
            *("--pool", POOL, "--seed", SEED, "--no-export"),
            *(["--label-head"] if arguments.label_head else []),
        )
        if run:
            call("feedback", "weigh", run, index)
        minutes = (time.monotonic() - started) / 60
        write_atomically(done, json.dumps({**settings, "minutes": minutes}).encode())
    version, facts = open_version(index), json.loads(done.read_bytes())
    own = {"model": version.manifest.encoder.fingerprint, **{name: facts.get(name) for name in settings}}
    _refuse_others(version, {"model": fingerprint(locate(model)), **settings}, own)
    _refuse_other_rows(version, collection, names)
    headed = [task for task in names if version.manifest.partitions[task].label_head is not None]
    return Headed(index, tuple(headed), facts["minutes"])


def _refuse_others(version: IndexVersion, settings: Mapping[str, object], own: Mapping[str, object]) -> None:
    """Exit if the index was built otherwise; None is not known."""
    if other := [name for name, value in settings.items() if own[name] not in (None, value)]:
        found = ", ".join(f"{name} {own[name]}, not {settings[name]}" for name in other)
        raise SystemExit(f"{version.path}: was built with {found}; remove that index")


def _refuse_other_rows(version: IndexVersion, collection: Collection, names: list[str]) -> None:
    """Exit if the index has other demonstrations than the pools of the evaluation, about which that only warns."""
    pools = {name: sorted(collection.tasks[name].pool(POOL, SEED).rows, key=lambda row: row.id) for name in names}
    with closing(version.demonstrations()) as table:
        other = [name for name, rows in pools.items() if rows_digest(table.every(name)) != rows_digest(rows)]
    if other:
        raise SystemExit(f"{version.path}: not the pools of the evaluation: {', '.join(other)}; remove that index")
