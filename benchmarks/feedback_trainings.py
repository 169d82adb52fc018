"""What a retriever learns from kinds of feedback that hosted models can give, beside an echo's log-likelihoods.

    python benchmarks/feedback_trainings.py TASKS --url http://127.0.0.1:8000/v1 --out FOLDER [--names trec,subj,snli]

TASKS is a collection with the tasks below. The server has the model ``--lm`` at ``/v1/chat/completions``. Each kind
scores the same pairs, so with the same number of requests; the echo's are computed in this process, which returns what
an honest server does. One retriever is trained on the scores of each kind, by preset ``cpu`` in one iteration, and
``--lm`` answers the same test rows with each, in this process. Resumes; prints Markdown: the values, and the gains over
the encoder before training with their paired 95 % intervals.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from answers import estimate_of, of_task, shown
from measuring import parser
from quality_calls import answer, call

from udr.data import TaskFolder, open_collection
from udr.models import BASE_ENCODER, DEFAULT_LM
from udr_training.answering import PaidAnswers
from udr_training.evaluation import Estimate, mean

KINDS: Mapping[str, Sequence[str]] = {
    "echo": (),
    "chat-logprobs": ("--kind", "chat-logprobs"),
    "metric": ("--kind", "metric", "--set", "feedback.list_options=true"),
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--url", required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--names", default="trec,subj,snli")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--dtype", default="float32", help="of the model in this process, and of training")
    options.add_argument("--queries", type=int, default=60)
    options.add_argument("--candidates", type=int, default=8)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--rows", type=int, default=150)
    options.add_argument("--lm-set", action="append", default=[], help="of the server, as in udr train")
    arguments = options.parse_args()
    # Answers are kept by the retriever's name, which must not depend on how the folder is spelled.
    arguments.out = arguments.out.resolve()
    folders = list(open_collection(arguments.tasks, arguments.names.split(",")).tasks.values())
    print(f"| retriever | requests | {' | '.join(folder.task.name for folder in folders)} | mean | gain |")
    print("|---|" + "---:|" * (len(folders) + 3))
    before = _values(arguments, folders, BASE_ENCODER)
    print(_line("encoder", "", before, ""), flush=True)
    for kind, given in KINDS.items():
        run = arguments.out / kind
        _train(arguments, run, kind, given)
        values = _values(arguments, folders, str(run))
        print(_line(kind, f"{_requests(run):,}", values, shown(mean(values) - mean(before))), flush=True)


def _train(arguments: argparse.Namespace, run: Path, kind: str, given: Sequence[str]) -> None:
    lm = arguments.lm if kind == "echo" else f"{arguments.url}?api=chat"
    server = () if kind == "echo" else tuple(part for each in arguments.lm_set for part in ("--lm-set", each))
    own = ("--dtype", arguments.dtype) if kind == "echo" else ()
    call(
        *("train", arguments.tasks, "--tasks", arguments.names, "--preset", "cpu", "--out", run, "--lm", lm),
        *("--queries", arguments.queries, "--candidates", arguments.candidates, "--iterations", 1, "--test-rows", 0),
        *("--train-dtype", arguments.dtype, "--set", f"train.epochs={arguments.epochs}", *own, *server, *given),
    )


def _values(arguments: argparse.Namespace, folders: list[TaskFolder], retriever: str) -> list[Estimate]:
    out = arguments.out / "evaluation"
    answer(arguments, [retriever], arguments.names.split(","), out, rows=arguments.rows, lm=arguments.lm)
    return [estimate_of(folder, *of_task(out, folder, [retriever])) for folder in folders]


def _requests(run: Path) -> int:
    """Return how many requests the scores of a run took, or as many pairs if they were computed in this process."""
    answers = run / "feedback-answers.sqlite"
    if answers.exists():
        with PaidAnswers(answers) as paid:
            return paid.spend.requests
    candidates = json.loads((run / "iteration-0" / "candidates.json").read_text("utf-8"))
    return sum(len(ids) for own in candidates.values() for ids in own.values())


def _line(name: str, requests: str, values: Sequence[Estimate], gain: str) -> str:
    cells = [f"{value.value:.1f}" for value in (*values, mean(values))]
    return f"| {' | '.join([name, requests, *cells, gain])} |"


if __name__ == "__main__":
    main()
