"""The options of ``udr train`` as arms of one comparison: the same pools, test rows, candidates and scores.

    python benchmarks/quality.py TASKS --out FOLDER [--arms udr,reward,...] [--seeds 3] [--iterations 2]
                                 [--feedback FILE]

The arm ``udr`` comes first; all arms share one file of scores. Unless an arm asks about other pairs from the start, it
begins with the first iteration that ``udr`` has, so that it mines the same candidates, and its own training is the
second. The arms ``first`` (without mining), ``epr`` and ``without-instruction`` have that first one alone. With
``--iterations 1``, all arms have the candidates of the first and nothing else. The main arms are trained with several
seeds on the ten tasks; the others with one, and evaluated on five of them. Seeds differ in the last training alone:
with ``--iterations 1`` they share queries, candidates and scores; with 2 also the encoder of the first iteration, so
that their intervals do not show how far first trainings scatter. The encoder, the hybrid search by it and the main arms
are evaluated with label heads, too: an index of the same pools (``udr index build``) has a head for each task where
cross-validation shows a gain. On the other tasks, an arm with heads has the values of the one without, but for the arm
``full``: on tasks without labels, its index is searched in mode ``hybrid``, with weights that ``udr feedback weigh``
sets by held-out queries. Its encoder alone is compared as other arms are: one seed, five tasks. Everything resumes, and
what is there is not run again. ``--kept FILE`` holds the figures alone: with it, a comparison goes on in another
folder, and runs only what the file lacks, but trains no run again whose figures it has; figures of other settings, rows
or trainings are refused.

Writes FOLDER/arms.json, which has the intervals of values, too, and prints Markdown: for each arm what
``quality_table.py`` lists, and for each trained arm its gains over what ``quality_gains.py`` lists, over tasks with
labels, over all tasks, and for each task. Tasks ``--beside`` them are trained on and evaluated like the others, but
count in no mean; those ``--unseen`` are not trained on, and have a mean of their own. ``--also random oracle`` adds
demonstrations at random, and the candidates that the language model scores best, which show the headroom.

``--answers LM``, added to the command of a comparison that is done, shows the transfer to another language model: all
that is there answers by that one, in files of its own, and nothing is trained.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from measuring import parser
from quality_calls import ABLATED, CANDIDATES, POOL, QUERIES, ROWS, SEED, SHOTS, TASKS
from quality_heads import Headed, labelled, with_head
from quality_kept import Kept
from quality_runs import ARMS, MAIN, SAME_AT_FIRST, Arm, evaluate, run_arm
from quality_table import Compared, facts_of, report

from udr.data import open_collection
from udr.models import BASE_ENCODER, DEFAULT_LM, PACKAGE
from udr_training.evaluation import ORACLE, RANDOM

SETTINGS = "rows iterations lm answers model dtype train_dtype preset queries candidates names set label_head".split()
"""The options that all figures depend on."""


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--arms", help="all by default")
    options.add_argument("--seeds", type=int, default=3, help="of the main arms")
    options.add_argument("--iterations", type=int, choices=(1, 2), default=2)
    options.add_argument("--feedback", type=Path, help="the file of scores; FOLDER/feedback.sqlite by default")
    options.add_argument("--kept", type=Path, help="the file of figures; FOLDER/kept.json by default")
    options.add_argument("--preset", default="cpu")
    options.add_argument("--dtype", default="float32", help="of feedback, training and answers")
    options.add_argument("--train-dtype", help="of training, if it is another")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument(
        "--answers", metavar="LM", help="the language model that answers; that of the feedback by default"
    )
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--names", default=TASKS, help="tasks of all trainings")
    options.add_argument("--beside", default="", help="more such tasks, outside the means")
    options.add_argument("--unseen", default="", help="tasks of no training, for untrained retrievers and the arm udr")
    options.add_argument("--also", nargs="+", choices=(RANDOM, ORACLE), default=[], help="more untrained retrievers")
    options.add_argument("--tested", help="tasks of the evaluation; by default those of the trainings and --unseen")
    options.add_argument("--ablated", default=ABLATED, help="those of them on which other arms and the oracle count")
    options.add_argument("--label-head", action="store_true", help="heads for all tasks with labels, gain or not")
    options.add_argument("--queries", type=int, default=QUERIES)
    options.add_argument("--candidates", type=int, default=CANDIDATES)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--set", action="append", default=[], help="of all trainings, as in udr train")
    arguments = options.parse_args(given)
    arguments.names = ",".join(filter(None, (arguments.names, arguments.beside)))
    trained, arguments.unseen = arguments.names.split(","), [name for name in arguments.unseen.split(",") if name]
    if both := [name for name in arguments.unseen if name in trained]:
        raise SystemExit(f"{both[0]} is trained on; give --unseen other tasks")
    known = [*trained, *arguments.unseen]
    arguments.tested = arguments.tested.split(",") if arguments.tested else known
    if neither := [name for name in arguments.tested if name not in known]:
        raise SystemExit(f"{neither[0]} is not trained on; name it with --unseen too")
    arguments.ablated = [name for name in arguments.ablated.split(",") if name in arguments.tested]
    same = SAME_AT_FIRST if arguments.iterations == 1 else ()
    names = arguments.arms.split(",") if arguments.arms else [name for name in ARMS if name not in same]
    if unknown := [name for name in names if name not in ARMS]:
        raise SystemExit(f"no arm {unknown[0]!r}; the arms are {', '.join(ARMS)}")
    if equal := [name for name in names if name in same]:
        raise SystemExit(f"the arm {equal[0]!r} differs in its second iteration; --iterations 1 has none")
    names = ["udr", *(name for name in names if name != "udr")]
    # Answers are kept by the retriever's name, which must not depend on how the folder is spelled.
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Another language model's answers are kept apart.
    other = arguments.answers not in (None, arguments.lm)
    arguments.suffix = f"-{Path(arguments.answers.removeprefix(PACKAGE)).name}" if other else ""
    arguments.answers = arguments.answers or arguments.lm
    arguments.train_dtype = arguments.train_dtype or arguments.dtype
    settings = {name: getattr(arguments, name) for name in SETTINGS} | {"shots": SHOTS, "pool": POOL, "seed": SEED}
    arguments.kept = Kept(arguments.kept or arguments.out / f"kept{arguments.suffix}.json", arguments.out, settings)
    arguments.kept.claim(open_collection(arguments.tasks, arguments.tested))
    compared = [*_untrained(arguments), *(each for name in names for each in _trained(arguments, name))]
    report(arguments, compared)


def _untrained(arguments: argparse.Namespace) -> Iterator[Compared]:
    """Evaluate what needs no training, and yield its rows."""
    model = arguments.model
    encoder, hybrid = Path(model.removeprefix(PACKAGE)).name, f"{model}?mode=hybrid"
    retrievers = {"bm25": "bm25", encoder: model, "hybrid": hybrid}
    if RANDOM in arguments.also:
        retrievers[RANDOM] = RANDOM
    evaluate(arguments, list(retrievers.values()), arguments.tested)
    yield from (Compared(name, [[retriever]]) for name, retriever in retrievers.items())
    if ORACLE in arguments.also:
        evaluate(arguments, [ORACLE], arguments.ablated)
        yield Compared(ORACLE, [[ORACLE]], tasks=arguments.ablated)
    headed = _headed(arguments, encoder, model)
    if headed.tasks:
        for name, plain, search in ((encoder, model, str(headed.index)), ("hybrid", hybrid, _hybrid(headed))):
            evaluate(arguments, [search], headed.tasks)
            yield Compared(name, [[search, plain]], head=headed)


def _trained(arguments: argparse.Namespace, name: str) -> Iterator[Compared]:
    """Train and evaluate an arm, and yield its rows."""
    arm, main = ARMS[name], name in MAIN
    runs = [arguments.out / f"{name}-{seed}" for seed in range(arguments.seeds if main else 1)]
    alone = runs[:1] if arm.weighed else runs
    own = arguments.tested if main and not arm.weighed else arguments.ablated
    built: list[Headed] = []
    for seed, run in enumerate(runs):
        print(f"== {run.name}", flush=True)
        options = arm.options(arguments.iterations)
        if not arguments.kept.knows(run.name):
            if arguments.suffix and not run.exists():
                raise SystemExit(f"{run}: is not there, and --answers trains nothing; run the same without it first")
            run_arm(arguments, arm, run, seed)
        found = arguments.kept.fact(run.name, partial(_facts, run, options))["options"]
        if found != options:
            raise SystemExit(
                f"{arguments.kept.path}: {run.name} was trained with {found}, not {options}; give another --kept"
            )
        if main:
            built.append(_headed(arguments, run.name, str(run / "model"), run if arm.weighed else None))
            _evaluate_headed(arguments, arm, run, built[-1])
        if run in alone:
            evaluate(arguments, [str(run)], own, bare=arm.bare)
    if arguments.kept.missing(str(alone[0]), own) != own:
        yield Compared(name, [[str(run)] for run in alone], alone, tasks=own)
    if head := next((each for each in built if each.tasks or arm.weighed), None):
        searched = [[str(it.index), _hybrid(it), str(run)] for run, it in zip(runs, built, strict=True)]
        yield Compared(name, searched, runs, head)


def _facts(run: Path, options: Sequence[str]) -> dict[str, Any]:
    return {"options": options, **facts_of(run)}


def _headed(arguments: argparse.Namespace, name: str, model: str, run: Path | None = None) -> Headed:
    """Return an index of the pools with label heads, which is built once."""

    def build() -> dict[str, Any]:
        headed = with_head(arguments, name, model, run)
        return {"tasks": list(headed.tasks), "minutes": headed.minutes}

    facts = arguments.kept.fact(f"indexes/{name}", build)
    tasks = tuple(task for task in facts["tasks"] if task in arguments.tested)
    return Headed(arguments.out / "indexes" / name, tasks, facts["minutes"])


def _evaluate_headed(arguments: argparse.Namespace, arm: Arm, run: Path, headed: Headed) -> None:
    """Evaluate the index of a run on the tasks that have a head.

    That of an arm that is weighed is evaluated on the tasks without labels, too, and its encoder alone on what is left.
    """
    evaluate(arguments, [str(headed.index)], headed.tasks)
    if arm.weighed:
        tasks = [name for name in arguments.names.split(",") if name in arguments.tested]
        labels = labelled(open_collection(arguments.tasks, tasks))
        evaluate(arguments, [_hybrid(headed)], [task for task in tasks if task not in labels])
        evaluate(arguments, [str(run)], [task for task in labels if task not in headed.tasks])


def _hybrid(headed: Headed) -> str:
    return f"{headed.index}?mode=hybrid"


if __name__ == "__main__":
    main()
