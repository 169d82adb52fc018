"""The first real run: is a retriever trained from feedback better than what needs no training?

    python benchmarks/first_run.py TASKS --out FOLDER

TASKS is a collection that holds sst2, cr, subj, trec and sst5. Trains a retriever on the five (two iterations, 250
queries a task, pools of 800, 12 candidates of which half are random), then compares random, BM25, the encoder it
started from and each iteration's encoder: 100 test rows a task, 4 shots. About an hour and a half on two cores. A run
that was cut short goes on. Prints the table in Markdown; everything is kept in FOLDER.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from udr.data import open_collection
from udr.models import DEFAULT_ENCODER, DEFAULT_LM
from udr_training.feedback import exported

TASKS = "sst2,cr,subj,trec,sst5"
NAMES = ("random", "BM25", "base encoder", "iteration 0", "iteration 1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--dtype", default="float32", help="of feedback and training; bfloat16 where the processor has it"
    )
    arguments = parser.parse_args()
    run, results = arguments.out / "run", arguments.out / "evaluation.json"
    udr = str(Path(sys.executable).with_name("udr"))

    train = [udr, "train", str(arguments.tasks), "--tasks", TASKS, "--preset", "cpu", "--test-rows", "0"]
    train += [
        "--pool",
        "800",
        "--queries",
        "250",
        "--lm",
        DEFAULT_LM,
        "--dtype",
        arguments.dtype,
        "--train-dtype",
        arguments.dtype,
    ]
    train += ["--model", DEFAULT_ENCODER, "--out", str(run)]
    subprocess.run(train, check=True, stdout=sys.stderr)

    if not results.exists():
        retrievers = ["random", "bm25", DEFAULT_ENCODER, f"{run}/iteration-0/model", f"{run}/iteration-1/model"]
        evaluate = [udr, "evaluate", str(arguments.tasks), "--tasks", TASKS, "--lm", DEFAULT_LM, "--shots", "4"]
        evaluate += ["--pool", "800", "--limit", "100", "--retrievers", ",".join(retrievers), "--json"]
        started = time.monotonic()
        answer = subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout
        seconds = time.monotonic() - started
        results.write_text(json.dumps({**json.loads(answer), "seconds": round(seconds)}), "utf-8")
    report(json.loads(results.read_text("utf-8")), json.loads((run / "manifest.json").read_text("utf-8")))
    print("\n" + separation(run, arguments.tasks))
    return 0


def separation(run: Path, folder: Path) -> str:
    """Return, as a table, how clearly the feedback tells demonstrations with the query's label from others."""
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
    for place, task in enumerate(tasks):
        own = values[place * len(NAMES) : (place + 1) * len(NAMES)]
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
    sys.exit(main())
