"""Is a retriever trained from feedback better than what needs no training? On ten tasks, and on three it never saw.

    python benchmarks/quality.py TASKS --out FOLDER [--preset cpu] [--dtype bfloat16] [--parts NAME,...]

TASKS is a collection that holds the tasks below. The parts, in their order:

- ``train``: one retriever on ten tasks, 150 queries and 12 candidates a task, two iterations;
- ``evaluate``: random, BM25, the base encoder, each iteration: 150 test rows a task, 4 shots;
- ``epr``: a retriever with the loss of EPR on the first iteration's scores; joins the evaluation;
- ``ablations``: one training on the ten tasks whose encoder reads no instruction, evaluated on five of them beside the
  iterations of the whole one;
- ``oracle``: the best candidates by the language model's own scores; joins the evaluation of five tasks;
- ``transfer``: the retriever and the untrained ones on three tasks that no training saw.

Hours on two cores. Every part goes on where it was cut short. FOLDER holds runs and evaluations, each with its report.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from udr.models import DEFAULT_ENCODER, DEFAULT_LM

TASKS = "sst5,cr,subj,trec,cola,snli,comv,commongen,e2e_nlg,mtop"
ABLATED = "sst5,trec,snli,comv,commongen"
UNSEEN = "mr,qnli,dart"
UDR = (str(Path(sys.executable).with_name("udr")),)
BARE = (sys.executable, str(Path(__file__).with_name("without_instruction.py")))
UNTRAINED = ("random", "bm25", DEFAULT_ENCODER)
QUERIES, CANDIDATES, ROWS, SHOTS = 150, 12, 150, 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of feedback, training and answers")
    parser.add_argument("--parts", default=",".join(PARTS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts.split(","):
        print(f"== {part}", flush=True)
        PARTS[part](arguments)
    return 0


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
    _evaluate(arguments, "transfer", UNSEEN, [*UNTRAINED, str(arguments.out / "udr")])


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": train,
    "evaluate": evaluate,
    "epr": epr,
    "ablations": ablations,
    "oracle": oracle,
    "transfer": transfer,
}


def _train(arguments: argparse.Namespace, name: str, tasks: str, *more: str, command: Sequence[str] = UDR) -> None:
    sizes = ["--queries", str(QUERIES), "--candidates", str(CANDIDATES)]
    models = ["--lm", DEFAULT_LM, "--model", DEFAULT_ENCODER, "--test-rows", "0"]
    dtypes = ["--dtype", arguments.dtype, "--train-dtype", arguments.dtype]
    # All runs read one file of scores: what one has had scored, another need not.
    places = ["--feedback", str(arguments.out / "feedback.sqlite"), "--out", str(arguments.out / name)]
    what = ["train", str(arguments.tasks), "--tasks", tasks, "--preset", arguments.preset]
    subprocess.run([*command, *what, *sizes, *models, *dtypes, *places, *more], check=True)


def _evaluate_beside_the_best(arguments: argparse.Namespace, retrievers: Sequence[str]) -> None:
    """Evaluate on all ten tasks, with gains over the untrained retriever that is best by mean."""
    _evaluate(arguments, "evaluation", TASKS, UNTRAINED)
    means = json.loads((arguments.out / "evaluation" / "report.json").read_bytes())["means"]
    best = max(means, key=lambda one: one["mean"])["retriever"]
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
    baseline: str = DEFAULT_ENCODER,
    command: Sequence[str] = UDR,
) -> None:
    output = arguments.out / name
    _answers_so_far(arguments.out / "evaluation", output)
    sizes = ["--shots", str(SHOTS), "--pool", "800", "--limit", str(ROWS), "--lm", DEFAULT_LM]
    compared = ["--retrievers", ",".join(retrievers), "--baseline", baseline, "--dtype", arguments.dtype]
    what = ["evaluate", str(arguments.tasks), "--tasks", tasks, "--output", str(output)]
    subprocess.run([*command, *what, *sizes, *compared, *more], check=True)


def _answers_so_far(first: Path, output: Path) -> None:
    """Begin an evaluation with the answers of the first one: where the same is asked, nothing is answered twice."""
    if output.exists() or not (first / "predictions").exists():
        return
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(first / "predictions", part / "predictions")
    shutil.copy(first / "config.json", part)
    part.rename(output)


if __name__ == "__main__":
    sys.exit(main())
