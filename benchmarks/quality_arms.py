"""The options of ``udr train`` as arms of one comparison: the same pools, test rows, candidates and scores.

    python benchmarks/quality_arms.py TASKS --out FOLDER [--arms udr,reward,...] [--seeds 3] [--feedback FILE]

The arm ``udr`` comes first; all arms share one file of scores. Unless an arm asks about other pairs from the start, it
begins with ``udr``'s first iteration, so that it mines the same candidates, and its own training is the second. The
main arms are trained with several seeds on the ten tasks; the others with one, and evaluated on five of them. The
encoder, the hybrid search by it and the main arms are evaluated with label heads, too: an index of the same pools
(``udr index build``) has a head for each task where cross-validation shows a gain. On the other tasks, an arm with
heads has the values of the one without. Everything resumes, and what is there is not run again.

Writes FOLDER/arms.json and prints Markdown: for each arm what ``quality_table.py`` lists, and for each trained arm its
gains over what ``quality_gains.py`` lists, over tasks with labels, over all tasks, and for each task.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import parser
from quality import ABLATED, CANDIDATES, QUERIES, ROWS, SHOTS, TASKS, UNTRAINED
from quality_heads import POOL, SEED, call, with_head
from quality_table import Compared, report

from udr.models import DEFAULT_ENCODER, DEFAULT_LM, PACKAGE


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
    options.add_argument("--label-head", action="store_true", help="heads for all tasks with labels, gain or not")
    options.add_argument("--queries", type=int, default=QUERIES)
    options.add_argument("--candidates", type=int, default=CANDIDATES)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--set", action="append", default=[], help="of all trainings, as in udr train")
    arguments = options.parse_args(given)
    names = arguments.arms.split(",")
    if unknown := [name for name in names if name not in ARMS]:
        raise SystemExit(f"no arm {unknown[0]!r}; the arms are {', '.join(ARMS)}")
    names = ["udr", *(name for name in names if name != "udr")]
    arguments.out.mkdir(parents=True, exist_ok=True)
    compared = [*_untrained(arguments), *(each for name in names for each in _trained(arguments, name))]
    report(arguments, compared)


def _untrained(arguments: argparse.Namespace) -> Iterator[Compared]:
    """Evaluate what needs no training, and yield its rows."""
    model = arguments.model
    encoder, hybrid = Path(model.removeprefix(PACKAGE)).name, f"{model}?mode=hybrid"
    retrievers = {name: name for name in UNTRAINED[:-1]} | {encoder: model, "hybrid": hybrid}
    _evaluate(arguments, list(retrievers.values()), arguments.names)
    yield from (Compared(name, [[retriever]]) for name, retriever in retrievers.items())
    if headed := with_head(arguments, encoder, model):
        index, by_both = str(headed.index), f"{headed.index}?mode=hybrid"
        _evaluate(arguments, [index, by_both], ",".join(headed.tasks))
        yield Compared(encoder, [[index, model]], head=headed)
        yield Compared("hybrid", [[by_both, hybrid]], head=headed)


def _trained(arguments: argparse.Namespace, name: str) -> Iterator[Compared]:
    """Train and evaluate an arm, and yield its rows."""
    runs = [_run(arguments, name, seed) for seed in range(_num_seeds(arguments, name))]
    yield Compared(name, [[str(run)] for run in runs], runs)
    if name not in MAIN:
        return
    built = [with_head(arguments, run.name, str(run / "model")) for run in runs]
    for headed in filter(None, built):
        _evaluate(arguments, [str(headed.index)], ",".join(headed.tasks))
    if head := next(filter(None, built), None):
        pairs = zip(runs, built, strict=True)
        yield Compared(name, [[str(it.index), str(run)] if it else [str(run)] for run, it in pairs], runs, head)


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
    call(
        *("train", arguments.tasks, "--tasks", arguments.names, "--preset", arguments.preset, "--out", run),
        *("--queries", arguments.queries, "--candidates", arguments.candidates, "--iterations", 2, "--test-rows", 0),
        *("--lm", arguments.lm, "--model", arguments.model, "--dtype", arguments.dtype),
        *("--train-dtype", arguments.dtype, "--feedback", arguments.feedback or arguments.out / "feedback.sqlite"),
        *arm.options,
        *(argument for setting in settings for argument in ("--set", setting)),
    )
    _evaluate(arguments, [str(run)], arguments.names if name in MAIN else arguments.ablated)
    return run


def _evaluate(arguments: argparse.Namespace, retrievers: Sequence[str], tasks: str) -> None:
    call(
        *("evaluate", arguments.tasks, "--tasks", tasks, "--retrievers", ",".join(retrievers)),
        *("--pool", POOL, "--seed", SEED, "--limit", arguments.rows, "--shots", SHOTS),
        *("--output", arguments.out / "evaluation", "--lm", arguments.lm, "--dtype", arguments.dtype),
    )


if __name__ == "__main__":
    main()
