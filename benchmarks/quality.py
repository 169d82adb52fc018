"""A retriever trained from feedback, compared with untrained ones: on ten tasks, and on three that it never saw.

    python benchmarks/quality.py TASKS --out FOLDER [--preset cpu] [--dtype bfloat16] [--rows 300] [--parts NAME,...]

TASKS is a collection with the tasks below. The parts, in order:

- ``train``: one retriever on ten tasks, 150 queries and 12 candidates per task, two iterations;
- ``evaluate``: random, BM25, the base encoder, each iteration: 300 test rows per task, 4 shots;
- ``epr``: a retriever with EPR's loss on the first iteration's scores; joins the evaluation;
- ``ablations``: one training on the ten tasks whose encoder reads no instruction, evaluated on five of them with the
  iterations of the full one;
- ``oracle``: the best candidates by the language model's own scores; joins the evaluation of five tasks;
- ``transfer``: the retriever and the untrained ones on three tasks that were not used for training;
- ``arms``: the options of ``udr train`` on the same feedback (``quality_arms.py``, which has more settings), with qnli
  as an eleventh task outside the mean.

Takes hours on two cores; every part resumes after an interruption. FOLDER holds runs and evaluations with reports.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import UDR, parser
from quality_calls import ABLATED, CANDIDATES, QUERIES, ROWS, SHOTS, TASKS

from udr.models import BASE_ENCODER, DEFAULT_LM

UNSEEN, BESIDE = "mr,rte,dart", "qnli"
BARE = (sys.executable, str(Path(__file__).with_name("without_instruction.py")))
UNTRAINED = ("random", "bm25", BASE_ENCODER)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--preset", default="cpu")
    options.add_argument("--dtype", default="float32", help="of feedback, training and answers")
    options.add_argument("--rows", type=int, default=ROWS, help="test rows of each task")
    options.add_argument("--feedback", type=Path, help="the file of scores; FOLDER/feedback.sqlite by default")
    options.add_argument("--unseen", default=UNSEEN, help="tasks of the part transfer")
    options.add_argument("--beside", default=BESIDE, help="tasks of the part arms that no mean counts")
    options.add_argument("--parts", default=",".join(PARTS))
    arguments = options.parse_args()
    # Answers are kept by the retriever's name, which must not depend on how the folder is spelled.
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # All trainings share one file of scores.
    arguments.feedback = arguments.feedback or arguments.out / "feedback.sqlite"
    for part in arguments.parts.split(","):
        print(f"== {part}", flush=True)
        PARTS[part](arguments)


def train(arguments: argparse.Namespace) -> None:
    _train(arguments, "udr", TASKS)


def evaluate(arguments: argparse.Namespace) -> None:
    _evaluate_beside_the_best(arguments, _compared(arguments))


def epr(arguments: argparse.Namespace) -> None:
    _train(arguments, "epr", TASKS, "--loss", "epr", "--iterations", "1")
    _evaluate_beside_the_best(arguments, [*_compared(arguments), str(arguments.out / "epr")])


def ablations(arguments: argparse.Namespace) -> None:
    _evaluate(arguments, "ablations", ABLATED, _compared(arguments), baseline="bm25")
    _train(arguments, "without-instruction", TASKS, "--iterations", "1", command=BARE)
    bare = str(arguments.out / "without-instruction")
    _evaluate(arguments, "without-instruction-evaluation", ABLATED, ["bm25", bare], baseline="bm25", command=BARE)


def oracle(arguments: argparse.Namespace) -> None:
    retrievers = [*UNTRAINED, str(arguments.out / "udr"), "oracle"]
    _evaluate(arguments, "headroom", ABLATED, retrievers, "--oracle-context", "1")


def transfer(arguments: argparse.Namespace) -> None:
    _evaluate(arguments, "transfer", arguments.unseen, [*UNTRAINED, str(arguments.out / "udr")])


def arms(arguments: argparse.Namespace) -> None:
    script = str(Path(__file__).with_name("quality_arms.py"))
    paths = [str(arguments.tasks), "--out", str(arguments.out / "arms")]
    settings = ["--preset", arguments.preset, "--dtype", arguments.dtype, "--rows", str(arguments.rows)]
    settings += ["--feedback", str(arguments.feedback), "--beside", arguments.beside]
    subprocess.run([sys.executable, script, *paths, *settings], check=True)


FUNCTIONS = (train, evaluate, epr, ablations, oracle, transfer, arms)
PARTS: dict[str, Callable[[argparse.Namespace], None]] = {part.__name__: part for part in FUNCTIONS}


def _train(arguments: argparse.Namespace, name: str, tasks: str, *more: str, command: Sequence[str] = (UDR,)) -> None:
    sizes = ["--queries", str(QUERIES), "--candidates", str(CANDIDATES)]
    models = ["--lm", DEFAULT_LM, "--model", BASE_ENCODER, "--test-rows", "0"]
    dtypes = ["--dtype", arguments.dtype, "--train-dtype", arguments.dtype]
    paths = ["--feedback", str(arguments.feedback), "--out", str(arguments.out / name)]
    start = ["train", str(arguments.tasks), "--tasks", tasks, "--preset", arguments.preset]
    subprocess.run([*command, *start, *sizes, *models, *dtypes, *paths, *more], check=True)


def _evaluate_beside_the_best(arguments: argparse.Namespace, retrievers: Sequence[str]) -> None:
    """Evaluate on all ten tasks, with gains over the untrained retriever with the best mean."""
    _evaluate(arguments, "evaluation", TASKS, UNTRAINED)
    means = json.loads((arguments.out / "evaluation" / "report.json").read_bytes())["means"]
    best = max(means, key=lambda mean: mean["mean"])["retriever"]
    _evaluate(arguments, "evaluation", TASKS, retrievers, baseline=best)


def _compared(arguments: argparse.Namespace) -> list[str]:
    run = arguments.out / "udr"
    return [*UNTRAINED, str(run / "iteration-0" / "model"), str(run)]


def _evaluate(
    arguments: argparse.Namespace,
    name: str,
    tasks: str,
    retrievers: Sequence[str],
    *more: str,
    baseline: str = BASE_ENCODER,
    command: Sequence[str] = (UDR,),
) -> None:
    output = arguments.out / name
    _start_with_answers_of(arguments.out / "evaluation", output)
    sizes = ["--shots", str(SHOTS), "--pool", "800", "--limit", str(arguments.rows), "--lm", DEFAULT_LM]
    compared = ["--retrievers", ",".join(retrievers), "--baseline", baseline, "--dtype", arguments.dtype]
    start = ["evaluate", str(arguments.tasks), "--tasks", tasks, "--output", str(output)]
    subprocess.run([*command, *start, *sizes, *compared, *more], check=True)


def _start_with_answers_of(first: Path, output: Path) -> None:
    """Start an evaluation with the answers of the first one, so that no prompt is answered twice."""
    if output.exists() or not (first / "predictions").exists():
        return
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(first / "predictions", part / "predictions")
    shutil.copy(first / "config.json", part)
    part.rename(output)


if __name__ == "__main__":
    main()
