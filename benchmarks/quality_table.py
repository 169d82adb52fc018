"""The tables of ``quality.py``.

For each arm, as means over seeds: the metric of each task, and its means over tasks with labels and over all tasks,
but for those that are outside the means; NDCG@8 and MRR against the language model's scores on validation queries,
without a head (mined candidates have no scores if later iterations ask new queries); scored pairs, and minutes of each
stage. Then its gains, see ``quality_gains.py``.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from quality_gains import References, Side, mean_over
from quality_heads import Headed, labelled
from quality_kept import Kept

from udr.data import open_collection
from udr.files import write_atomically
from udr_training import RunFolder


@dataclass(frozen=True, slots=True)
class Compared:
    """An arm, with or without label heads.

    Attributes:
        name: the retriever's.
        retrievers: for each seed, names as ``udr evaluate`` takes them; the first that has a task's answers counts.
        runs: the run directories, by seed; none if it is not trained.
        head: its index of the first seed, if it has label heads.
        tasks: those on which it is compared; None is all.
    """

    name: str
    retrievers: Sequence[Sequence[str]]
    runs: Sequence[Path] = ()
    head: Headed | None = None
    tasks: Sequence[str] | None = None

    @property
    def title(self) -> str:
        """What the tables call it."""
        return f"{self.name} + head" if self.head else self.name


def report(arguments: argparse.Namespace, compared: Sequence[Compared]) -> None:
    """Write ``arms.json`` and print the tables."""
    names = arguments.tested
    collection = open_collection(arguments.tasks, names)
    kept = arguments.kept
    sides = {each.title: side_of(each, names, kept) for each in compared}
    # The oracle asks the language model that answers, so it is no reference.
    untrained = [each for each in compared if not each.runs and each.tasks is None]
    references = References(
        plain={each.title: sides[each.title] for each in untrained if not each.head},
        headed={each.title: sides[each.title] for each in untrained if each.head},
        trained=sides["udr"],
    )
    outside = [*arguments.beside.split(","), *arguments.unseen]
    means = {"labels": labelled(collection), "all": names}
    groups = {group: [name for name in tasks if name not in outside] for group, tasks in means.items()}
    groups |= {"unseen": arguments.unseen} if arguments.unseen else {}
    groups |= {name: [name] for name in names}
    rows = [_row(each, sides[each.title], groups, references, kept) for each in compared]
    best = {group: references.best(tasks) for group, tasks in groups.items() if tasks}
    path = arguments.out / f"arms{arguments.suffix}.json"
    write_atomically(path, json.dumps({"best_untrained": best, "arms": rows}, indent=1).encode())
    last = ("ndcg", "mrr", "pairs", "minutes")
    _print([["arm", "seeds", *groups, "NDCG@8", "MRR", "pairs", "minutes"]])
    _print([[row["arm"], row["seeds"], *_cells(row["values"], groups), *map(row.get, last)] for row in rows], body=True)
    for note in dict.fromkeys(note for row in rows for note in row.get("notes", [])):
        print(f"\n{note}")
    _print([["arm", "over", *groups]])
    gains = [(row["arm"], over, of) for row in rows for over, of in row["gains"].items()]
    _print([[arm, over, *_cells(of, groups)] for arm, over, of in gains], body=True)


def _print(rows: Sequence[Sequence[object]], *, body: bool = False) -> None:
    """Print the rows of a table, or its head."""
    for cells in rows:
        line = " | ".join("" if cell is None else str(cell) for cell in cells)
        print(f"| {line} |" if body else f"\n| {line} |\n{'|---' * len(cells)}|")


def _cells(values: Mapping[str, object], groups: Mapping[str, Sequence[str]]) -> list[object]:
    return [values.get(group) for group in groups]


def side_of(each: Compared, tasks: Sequence[str], kept: Kept) -> Side:
    """Return the values of each seed on the tasks that the arm was evaluated on."""
    values = [[kept.values(retriever) for retriever in retrievers] for retrievers in each.retrievers]
    own_tasks = [task for task in tasks if each.tasks is None or task in each.tasks]
    return [
        {task: found[0] for task in own_tasks if (found := [own[task] for own in those if task in own])}
        for those in values
    ]


def _row(
    each: Compared, side: Side, groups: Mapping[str, Sequence[str]], references: References, kept: Kept
) -> dict[str, Any]:
    # An arm that was evaluated on some of the tasks has no mean over all, but gains over those.
    own = {group: [task for task in tasks if all(task in values for values in side)] for group, tasks in groups.items()}
    own = {group: tasks for group, tasks in own.items() if tasks}
    means = {group: mean_over(side, tasks, len(side)) for group, tasks in own.items() if tasks == groups[group]}
    row: dict[str, Any] = {
        "arm": each.title,
        "seeds": len(each.runs),
        "values": {group: round(mean.value, 1) for group, mean in means.items()},
        "intervals": {group: [round(end, 1) for end in mean.interval] for group, mean in means.items()},
        "by_seed": [round(mean_over([values], own.get("all", list(side[0])), 1).value, 2) for values in side],
        "gains": references.gains(side, own) if each.runs else {},
    }
    minutes: dict[str, float] = {}
    if each.runs:
        # Each was measured by the benchmark; what is null or empty is not known.
        facts = [kept.fact(run.name, lambda run=run: facts_of(run)) for run in each.runs]
        for name in () if each.head else ("ndcg", "mrr"):
            if known := [own[name] for own in facts if own[name] is not None]:
                row[name] = round(float(np.mean(known)), 3)
        row["pairs"], minutes = facts[0]["pairs"], next((own["minutes"] for own in facts if own["minutes"]), {})
        notes = [f"{run.name}: {own['note']}" for run, own in zip(each.runs, facts, strict=True) if "note" in own]
        row |= {"notes": notes} if notes else {}
    if each.head:
        minutes = {**minutes, "heads": each.head.minutes}
    row["minutes"] = ", ".join(f"{stage} {spent:.1f}" for stage, spent in minutes.items())
    return row


def facts_of(run: Path) -> dict[str, Any]:
    """Return what is told of a run: NDCG@8, MRR, pairs, and the minutes of each stage."""
    ndcg, mrr = _validation(run)
    return {"ndcg": ndcg, "mrr": mrr, "pairs": _pairs(run), "minutes": _minutes(run)}


def _validation(run: Path) -> tuple[float | None, float | None]:
    """Return NDCG@8 and MRR of the model that a run kept: that with the best NDCG of the last iteration, if any."""
    lines = (_iterations(run)[-1] / "metrics.jsonl").read_text("utf-8").splitlines()
    # At step 0 it is the encoder before the training.
    validations = [entry for entry in map(json.loads, lines) if "ndcg" in entry and entry["step"]]
    if not validations:
        return None, None
    kept = max(validations, key=lambda entry: entry["ndcg"]["mean"])
    return kept["ndcg"]["mean"], kept["mrr"]["mean"]


def _pairs(run: Path) -> int:
    """Return the pairs that the language model scored for a run, whichever run asked first."""
    return sum(len(ids) for candidates in RunFolder(run).candidates().values() for ids in candidates.values())


def _minutes(run: Path) -> dict[str, float]:
    """Return the minutes of each stage; those of the feedback are of the run that asked first."""
    minutes: dict[str, float] = {}
    for iteration in _iterations(run):
        for stage, spent in json.loads((iteration / "seconds.json").read_text("utf-8")).items():
            minutes[stage] = minutes.get(stage, 0.0) + spent / 60
    return minutes


def _iterations(run: Path) -> list[Path]:
    return sorted(run.glob("iteration-*"), key=lambda path: int(path.name.rpartition("-")[2]))
