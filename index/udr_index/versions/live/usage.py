"""What the counts and outcomes of an index's use say about its demonstrations, and outcomes as a file."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from udr.data import Kind
from udr.errors import ArtifactError
from udr.files import refuse_existing, write_atomically
from udr.store import LIVE, open_version
from udr.store.live import Overlay, View, WriteLog, read_writes
from udr.store.usage import USAGE, Count, TaskTotal, Told, UsageFile, estimates
from udr.types import Json
from udr_index.versions.live.rows import open_rows

ALWAYS, ALWAYS_PROMPTS = 0.5, 20
"""A demonstration is always shown if at least this share of the task's prompts show it, of at least so many."""

BAD, BAD_OUTCOMES = 0.1, 5
"""Its outcomes are bad if the estimate is so far below the mean of the task's prompts, from at least so many."""

STARVED, STARVED_SHOWN = 0.25, 10
"""A label is starved if its share of what is shown is below this part of its share of the pool, where so many of its
demonstrations would have been shown by that share."""

NEEDLESS = 10
"""What was never retrieved is needless once others were retrieved so many times for each row of the pool."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and its shares of the pool and of what prompts showed."""

    label: str
    of_pool: float
    of_shown: float


@dataclass(frozen=True, slots=True)
class Bad:
    """A demonstration whose prompts had worse outcomes than others, the estimate of its score, and their number."""

    id: str
    estimate: float
    outcomes: int


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """How a task's demonstrations are used.

    Attributes:
        task: its name.
        since: when its use was first counted, in seconds since 1970; None if it was not.
        rows: demonstrations in the pool now.
        retrieved: how often one of them was retrieved.
        prompts: prompts counted.
        outcomes: of how many prompts the outcome is known.
        mean: their mean score; None if there is none.
        never_shown: ids that no prompt showed.
        always_shown: ids that most prompts showed, with their share of the prompts.
        bad: those with bad outcomes, the worst first.
        starved: labels that are hardly shown.
        remove: ids to look at, and perhaps to remove: those with bad outcomes, then those that are needless.
    """

    task: str
    since: float | None
    rows: int
    retrieved: int
    prompts: int
    outcomes: int
    mean: float | None
    never_shown: Sequence[str]
    always_shown: Mapping[str, float]
    bad: Sequence[Bad]
    starved: Sequence[Label]
    remove: Sequence[str]


@dataclass(frozen=True, slots=True)
class OutcomesFile:
    """What was exported: outcomes, and how many of them lack the input of their prompt."""

    outcomes: int
    without_input: int


def usage(root: Path) -> list[TaskUsage]:
    """Return how the demonstrations of an index are used, by task.

    Raises:
        ArtifactError: there is no index, or nothing of its use was kept.
    """
    with _opened(root) as file, open_rows(root) as pool:
        view, totals, told, (written, forgotten) = pool.view(), file.totals(), list(file.told()), _written(root)
        return [
            task_usage(
                name,
                _targets(view, name),
                file.counts(name),
                totals.get(name),
                [item for item in told if item.prompt.task == name],
                labelled=task.kind is Kind.CLASSIFICATION,
                written=written.get(name, {}),
                forgotten=forgotten,
                now=time.time(),
            )
            for name, task in pool.base.tasks.items()
        ]


def task_usage(
    name: str,
    targets: Mapping[str, str],
    counts: Mapping[str, Count],
    total: TaskTotal | None,
    told: Sequence[Told],
    *,
    labelled: bool,
    written: Mapping[str, float] = MappingProxyType({}),
    forgotten: float | None = None,
    now: float = 0.0,
) -> TaskUsage:
    """Return how a task's demonstrations are used.

    Args:
        name: the task.
        targets: the target of each demonstration that is in the pool now, by id.
        counts: by id; those of demonstrations that are gone are left out.
        total: of the task's prompts.
        told: its prompts with outcomes.
        labelled: whether targets are labels.
        written: when demonstrations that were not built with the index were written, by id, in seconds since 1970.
        forgotten: when the log last forgot some; of those that are not in ``written``, only the time since then counts.
        now: the present time.
    """
    used = {id: counts.get(id, Count()) for id in targets}
    prompts, retrieved = (total.prompts if total else 0), sum(count.retrieved for count in used.values())
    mean, scores = estimates(("", item.prompt.ids, item.outcome.score) for item in told)
    bad = [
        Bad(id, estimate.score, estimate.outcomes)
        for (_, id), estimate in scores.items()
        if id in used and estimate.outcomes >= BAD_OUTCOMES and estimate.score <= mean - BAD
    ]
    bad.sort(key=lambda item: (item.estimate, item.id))
    needless = [
        id
        for id, count in used.items()
        if not count.retrieved and retrieved * _share(written.get(id, forgotten), total, now) >= NEEDLESS * len(used)
    ]
    shares = {id: count.shown / prompts for id, count in used.items()} if prompts >= ALWAYS_PROMPTS else {}
    return TaskUsage(
        task=name,
        since=total.since if total else None,
        rows=len(used),
        retrieved=retrieved,
        prompts=prompts,
        outcomes=len(told),
        mean=mean if told else None,
        never_shown=[id for id, count in used.items() if not count.shown],
        always_shown={id: share for id, share in shares.items() if share >= ALWAYS},
        bad=bad,
        starved=_starved(targets, used) if labelled else [],
        remove=[*dict.fromkeys([*(item.id for item in bad), *needless])],
    )


def _share(written: float | None, total: TaskTotal | None, now: float) -> float:
    """Return the share of the time of counting for which a demonstration was there to be retrieved."""
    if written is None:
        return 1.0
    if total is None or now <= total.since:
        return 0.0
    return min(1.0, (now - written) / (now - total.since))


def _written(root: Path) -> tuple[dict[str, dict[str, float]], float | None]:
    """Return when rows were written, by task and id, also those that a compaction put into the version since.

    And when the log last forgot such rows; None if it never did.
    """
    with closing(WriteLog(root / LIVE)) as log:
        kept = Overlay().after(read_writes(log)[1])
    times = {task: {id: row.seconds for id, row in writes.rows.items()} for task, writes in kept.tasks.items()}
    return times, kept.forgotten or None


def _starved(targets: Mapping[str, str], used: Mapping[str, Count]) -> list[Label]:
    of_pool, of_shown = Counter(targets.values()), Counter[str]()
    for id, count in used.items():
        of_shown[targets[id]] += count.shown
    rows, shown = len(targets), of_shown.total()
    return [
        Label(label, number / rows, of_shown[label] / shown)
        for label, number in sorted(of_pool.items())
        if number / rows * shown >= STARVED_SHOWN and of_shown[label] / shown < STARVED * number / rows
    ]


def export_outcomes(root: Path, out: Path) -> OutcomesFile:
    """Write the outcomes of prompts to a JSONL file, the oldest first.

    Raises:
        ArtifactError: there is no index, or nothing of its use was kept.
        ConfigError: the file exists.
    """
    refuse_existing(out)
    with _opened(root) as file:
        told = list(file.told())

        def write(stream: BinaryIO) -> None:
            stream.writelines(_line(item) for item in told)

        write_atomically(out, write)
    return OutcomesFile(len(told), sum(item.prompt.input is None for item in told))


def _opened(root: Path) -> UsageFile:
    open_version(root)
    path = root / LIVE / USAGE
    if not path.exists():
        raise ArtifactError(f"{root}: nothing of its use was kept; udr serve counts it, unless --usage off says not to")
    return UsageFile(path, read_only=True)


def _targets(view: View, task: str) -> dict[str, str]:
    return {row.id: row.target for rows in view.pages(task) for row in rows}


def _line(told: Told) -> bytes:
    prompt, outcome = told.prompt, told.outcome
    keys: dict[str, Json] = {"prompt_id": prompt.prompt_id, "task": prompt.task, "seconds": round(prompt.seconds, 3)}
    if prompt.input is not None:
        keys["input"] = dict(prompt.input)
    keys |= {"demonstrations": [*prompt.ids], "score": outcome.score}
    if outcome.target is not None:
        keys["target"] = outcome.target
    return json.dumps(keys, ensure_ascii=False).encode() + b"\n"
