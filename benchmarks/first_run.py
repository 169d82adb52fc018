"""The first real run: a retriever trained from feedback, compared with retrievers that need no training.

    python benchmarks/first_run.py TASKS --out FOLDER

TASKS is a collection with sst2, cr, subj, trec and sst5. Trains a retriever on all five (two iterations, 250 queries a
task, pools of 800, 12 candidates of which half are random), then compares random, BM25, the initial encoder and each
iteration's encoder: 100 test rows per task, 4 shots. Takes about an hour and a half on two cores, and resumes after an
interruption. Prints the table in Markdown and keeps everything in FOLDER.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import UDR, measured, parser

from udr.data import open_collection
from udr.models import BASE_ENCODER, DEFAULT_LM
from udr_training.feedback import exported

TASKS = "sst2,cr,subj,trec,sst5"
NAMES = ("random", "BM25", "base encoder", "iteration 0", "iteration 1")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument(
        "--dtype", default="float32", help="of feedback and training; bfloat16 if the processor supports it"
    )
    arguments = options.parse_args()
    run, results = arguments.out / "run", arguments.out / "evaluation.json"
    train = f"--tasks {TASKS} --preset cpu --test-rows 0 --pool 800 --queries 250 --lm {DEFAULT_LM}".split()
    train += ["--dtype", arguments.dtype, "--train-dtype", arguments.dtype, "--model", BASE_ENCODER]
    subprocess.run([UDR, "train", arguments.tasks, *train, "--out", run], check=True, stdout=sys.stderr)

    evaluation = measured(results, lambda: evaluate(run, arguments.tasks), dtype=arguments.dtype)
    report(evaluation, json.loads((run / "manifest.json").read_text("utf-8")))
    print("\n" + separation(run, arguments.tasks))


def evaluate(run: Path, folder: Path) -> dict[str, Any]:
    """Return the report of the evaluation, and its seconds."""
    retrievers = ["random", "bm25", BASE_ENCODER, f"{run}/iteration-0/model", f"{run}/iteration-1/model"]
    given = f"--tasks {TASKS} --lm {DEFAULT_LM} --shots 4 --pool 800 --limit 100 --json --retrievers".split()
    started = time.monotonic()
    command = [UDR, "evaluate", folder, *given, ",".join(retrievers)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {**json.loads(answer), "seconds": round(time.monotonic() - started)}


def separation(run: Path, folder: Path) -> str:
    """Return, as a table, how well the feedback separates demonstrations with the query's label from others."""
    targets = {
        row.id: row.target
        for task in open_collection(folder, TASKS.split(",")).tasks.values()
        for row in task.pool().rows
    }
    scores: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for pair in exported(run):
        own = scores.setdefault(str(pair["task"]), {}).setdefault(str(pair["query_id"]), ([], []))
        same = targets[str(pair["query_id"])] == targets[str(pair["demonstration_id"])]
        own[0 if same else 1].append(float(str(pair["score"])))
    lines = ["| task | mean score, same label | other label | same above other |", "|---|---|---|---|"]
    for task, queries in scores.items():
        means = [np.mean([score for own in queries.values() for score in own[side]]) for side in (0, 1)]
        above = [np.mean(np.subtract.outer(*own) > 0) for own in queries.values() if own[0] and own[1]]
        lines.append(f"| {task} | {means[0]:.2f} | {means[1]:.2f} | {np.mean(above):.3f} |")
    return "\n".join(lines)


def report(evaluation: dict, manifest: dict) -> None:
    """Print the table, the gain over the best untrained retriever, and the time of each stage."""
    values = [row["value"] for row in evaluation["tasks"]]
    tasks = [row["task"] for row in evaluation["tasks"][:: len(NAMES)]]
    print(f"| task | {' | '.join(NAMES)} |")
    print(f"|---|{'---|' * len(NAMES)}")
    for number, task in enumerate(tasks):
        own = values[number * len(NAMES) : (number + 1) * len(NAMES)]
        print(f"| {task} | {' | '.join(f'{value:.1f}' for value in own)} |")
    means = evaluation["means"]
    print(f"| **mean** | {' | '.join('**{mean:.1f}**'.format(**mean) for mean in means)} |")
    print(f"| 95 % interval | {' | '.join('{low:.1f} to {high:.1f}'.format(**mean) for mean in means)} |")
    untrained, trained = (max(mean["mean"] for mean in part) for part in (means[:3], means[3:]))
    print(
        f"\nLast iteration minus the best untrained: {means[-1]['mean'] - untrained:+.1f} points; best {trained:.1f}."
    )
    for number, seconds in enumerate(manifest["seconds"]):
        print(f"iteration {number}: " + ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items()))
    print(f"evaluation: {evaluation['seconds']} s")


if __name__ == "__main__":
    main()
