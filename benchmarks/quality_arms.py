"""The options of ``udr train`` as arms of one comparison: the same pools, test rows, candidates and scores.

    python benchmarks/quality_arms.py TASKS --out FOLDER [--arms udr,reward,...] [--seeds 3] [--feedback FILE]

The arm ``udr`` comes first; all arms share one file of scores. Unless an arm asks about other pairs from the start, it
begins with ``udr``'s first iteration, so that it mines the same candidates, and its own training is the second. The
main arms are trained with several seeds on the ten tasks; the others with one, and evaluated on five of them. Every
training and evaluation resumes.

Writes FOLDER/arms.json and prints Markdown: for each arm the metric of each task (mean over seeds), the mean, the gains
over the best untrained retriever and over ``udr``, NDCG@8 and MRR against the language model's scores on held-out
queries (whose mined candidates are not scored if later iterations ask new queries), scored pairs, and minutes of each
stage. Intervals are 95 %, of a bootstrap over test rows and seeds, paired: both arms have the same rows and the same
seeds in each resample. Three seeds are few, so the seeds' part of the interval is an approximation.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import parser
from paired import estimate_of, shown
from quality import ABLATED, CANDIDATES, QUERIES, ROWS, SHOTS, TASKS, UNTRAINED

from udr.cli import main as udr
from udr.data import Collection, open_collection
from udr.files import write_atomically
from udr.models import DEFAULT_ENCODER, DEFAULT_LM
from udr_training import RunFolder
from udr_training.evaluation import Estimate, draws


@dataclass(frozen=True)
class Arm:
    """Options of ``udr train``; ``own`` if the pairs of the first iteration are the arm's own."""

    options: tuple[str, ...] = ()
    own: bool = False


_FULL = ("--label-aware", "--loss", "kl", "--extrapolate", "reward", "--later", "allocated")
ARMS = {
    "udr": Arm(),
    "full": Arm(_FULL),
    "label-aware": Arm(("--label-aware",)),
    "labels": Arm(("--label-aware", "--extrapolate", "labels")),
    "kl": Arm(("--loss", "kl")),
    "reward": Arm(("--loss", "kl", "--extrapolate", "reward")),
    "new": Arm(("--later", "new")),
    "allocated": Arm(("--later", "allocated")),
    "centred": Arm(("--centre-scores",)),
    "shared": Arm(("--shared", "16"), own=True),
    "shared-centred": Arm(("--shared", "16", "--centre-scores"), own=True),
}
MAIN = ("udr", "full")


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--arms", default=",".join(ARMS))
    options.add_argument("--seeds", type=int, default=3, help="of the main arms")
    options.add_argument("--feedback", type=Path, help="the file of scores; FOLDER/feedback.sqlite by default")
    options.add_argument("--preset", default="cpu")
    options.add_argument("--dtype", default="float32", help="of feedback, training and answers")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--model", default=DEFAULT_ENCODER)
    options.add_argument("--names", default=TASKS, help="tasks of all trainings, and of the main arms' evaluation")
    options.add_argument("--ablated", default=ABLATED, help="tasks of the other arms' evaluation")
    options.add_argument("--untrained", help="retrievers; random, bm25 and the encoder by default")
    options.add_argument("--queries", type=int, default=QUERIES)
    options.add_argument("--candidates", type=int, default=CANDIDATES)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--set", action="append", default=[], help="of all trainings, as in udr train")
    arguments = options.parse_args(given)
    names = arguments.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        raise SystemExit(f"no arm {unknown[0]!r}; the arms are {', '.join(ARMS)}")
    names = ["udr", *(name for name in names if name != "udr")]
    untrained = arguments.untrained.split(",") if arguments.untrained else [*UNTRAINED[:-1], arguments.model]
    arguments.out.mkdir(parents=True, exist_ok=True)
    _evaluate(arguments, ",".join(untrained), arguments.names)
    runs = {name: [_run(arguments, name, seed) for seed in range(_num_seeds(arguments, name))] for name in names}
    _report(arguments, untrained, runs)


def _num_seeds(arguments: argparse.Namespace, name: str) -> int:
    return int(arguments.seeds) if name in MAIN else 1


def _run(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """Train and evaluate an arm with one seed, or what is left of it; return its run directory."""
    arm, run, first = ARMS[name], arguments.out / f"{name}-{seed}", arguments.out / "udr-0"
    print(f"== {run.name}", flush=True)
    if not arm.own and run != first and not run.exists():
        part = run.with_name(f"{run.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(first / "iteration-0", part / "iteration-0")
        part.rename(run)
    settings = [*arguments.set, *([f"train.seed={seed}"] if seed else [])]
    _udr(
        *("train", arguments.tasks, "--tasks", arguments.names, "--preset", arguments.preset, "--out", run),
        *("--queries", arguments.queries, "--candidates", arguments.candidates, "--iterations", 2, "--test-rows", 0),
        *("--lm", arguments.lm, "--model", arguments.model, "--dtype", arguments.dtype),
        *("--train-dtype", arguments.dtype, "--feedback", arguments.feedback or arguments.out / "feedback.sqlite"),
        *arm.options,
        *(argument for setting in settings for argument in ("--set", setting)),
    )
    _evaluate(arguments, str(run), arguments.names if name in MAIN else arguments.ablated)
    return run


def _evaluate(arguments: argparse.Namespace, retrievers: str, tasks: str) -> None:
    _udr(
        *("evaluate", arguments.tasks, "--tasks", tasks, "--retrievers", retrievers, "--pool", 800),
        *("--output", arguments.out / "evaluation", "--shots", SHOTS, "--limit", arguments.rows),
        *("--lm", arguments.lm, "--dtype", arguments.dtype),
    )


def _udr(*arguments: object) -> None:
    if status := udr(list(map(str, arguments))):
        raise SystemExit(status)


def over_rows(estimate: Estimate, task: str) -> Estimate:
    """Return a task's value with its values on resamples of the test rows, the same ones for all arms."""
    if estimate.rows is None:
        return estimate
    means = [estimate.rows[drawn].mean() for drawn in draws(task, len(estimate.rows), 0)]
    return Estimate.of_samples(estimate.value, np.array(means))


def over_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over tasks, whose resamples are independent."""
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate.of_samples(value, np.array([estimate.samples for estimate in estimates]).mean(axis=0))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds; each resample also draws as many of the seeds, with replacement."""
    samples = np.array([estimate.samples for estimate in estimates]).T
    # The same draws for all arms with as many seeds, so that their differences are paired.
    drawn = np.random.default_rng(0).integers(len(estimates), size=samples.shape)
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate.of_samples(value, np.take_along_axis(samples, drawn, axis=1).mean(axis=1))


Values = Mapping[str, Mapping[str, Estimate]]
"""Values by retriever and task."""


def _report(arguments: argparse.Namespace, untrained: Sequence[str], runs: Mapping[str, Sequence[Path]]) -> None:
    names = arguments.names.split(",")
    values = _values(open_collection(arguments.tasks, names), arguments.out / "evaluation" / "predictions")
    best = max(untrained, key=lambda name: over_tasks([values[name][task] for task in names]).value)
    rows = [_untrained_row(name, values[name]) for name in untrained]
    rows += [_row(name, own, runs["udr"], values, best) for name, own in runs.items()]
    write_atomically(arguments.out / "arms.json", json.dumps({"best_untrained": best, "arms": rows}, indent=1).encode())
    columns = ("over_untrained", "over_udr", "ndcg", "mrr", "pairs", "minutes")
    heads = ["arm", "seeds", *names, "mean", f"over {Path(best).name}", "over udr", "NDCG@8", "MRR", "pairs", "minutes"]
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for row in rows:
        tasks = [f"{row['tasks'][task]:.1f}" if task in row["tasks"] else "" for task in names]
        cells = [row["arm"], row["seeds"], *tasks, f"{row['mean']:.1f}", *(row.get(column, "") for column in columns)]
        print(f"| {' | '.join(map(str, cells))} |")


def _values(collection: Collection, predictions: Path) -> Values:
    values: dict[str, dict[str, Estimate]] = {}
    for task, folder in collection.tasks.items():
        for path in sorted((predictions / task).glob(f"*.{SHOTS}-shot.jsonl")):
            with path.open(encoding="utf-8") as lines:
                retriever = json.loads(next(lines))["retriever"]
            values.setdefault(retriever, {})[task] = over_rows(estimate_of(folder, path), task)
    return values


def _untrained_row(name: str, values: Mapping[str, Estimate]) -> dict[str, Any]:
    tasks = {task: round(value.value, 2) for task, value in values.items()}
    return {"arm": Path(name).name, "seeds": 0, "tasks": tasks, "mean": over_tasks(list(values.values())).value}


def _row(name: str, runs: Sequence[Path], base: Sequence[Path], values: Values, best: str) -> dict[str, Any]:
    own = [values[str(run)] for run in runs]
    others = [values[str(run)] for run in base[: len(runs)]]
    tasks = list(own[0])
    by_seed = [over_tasks([each[task] for task in tasks]) for each in own]
    untrained = over_seeds([over_tasks([values[best][task] for task in tasks])] * len(runs))
    reference = over_seeds([over_tasks([each[task] for task in tasks]) for each in others])
    total = over_seeds(by_seed)
    held_out = [_held_out(run) for run in runs]
    return {
        "arm": name,
        "seeds": len(runs),
        "tasks": {task: round(over_seeds([each[task] for each in own]).value, 2) for task in tasks},
        "mean": total.value,
        "by_seed": [round(value.value, 2) for value in by_seed],
        "over_untrained": shown(total - untrained),
        "over_udr": "" if name == "udr" else shown(total - reference),
        "ndcg": round(float(np.mean([ndcg for ndcg, _ in held_out])), 3),
        "mrr": round(float(np.mean([mrr for _, mrr in held_out])), 3),
        "pairs": _pairs(runs[0]),
        "minutes": _minutes(runs[0]),
    }


def _held_out(run: Path) -> tuple[float, float]:
    """Return NDCG@8 and MRR of the model that a run kept: that with the best NDCG of the last iteration."""
    lines = (_iterations(run)[-1] / "metrics.jsonl").read_text("utf-8").splitlines()
    validations = [entry for entry in map(json.loads, lines) if "ndcg" in entry]
    kept = max(validations, key=lambda entry: entry["ndcg"]["mean"])
    return kept["ndcg"]["mean"], kept["mrr"]["mean"]


def _pairs(run: Path) -> int:
    """Return the pairs that the language model scored for a run, whichever run asked first."""
    return sum(len(ids) for candidates in RunFolder(run).candidates().values() for ids in candidates.values())


def _minutes(run: Path) -> str:
    """Return the minutes of each stage; those of the feedback are of the run that asked first."""
    seconds: dict[str, float] = {}
    for iteration in _iterations(run):
        for stage, spent in json.loads((iteration / "seconds.json").read_text("utf-8")).items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return ", ".join(f"{stage} {spent / 60:.1f}" for stage, spent in seconds.items())


def _iterations(run: Path) -> list[Path]:
    return sorted(run.glob("iteration-*"), key=lambda path: int(path.name.rpartition("-")[2]))


if __name__ == "__main__":
    main()
