"""The difference of two retrievers that were evaluated apart, paired over the same test rows.

    python benchmarks/paired.py TASKS FOLDER/predictions/{task}/A.4-shot.jsonl FOLDER/predictions/{task}/B.4-shot.jsonl

Each of the two names the answers that ``udr evaluate`` keeps, with ``{task}`` in a task's place. Prints the values, and
A less B with its 95 % bootstrap interval, task by task and on the mean.
"""

import argparse
import json
import sys
from pathlib import Path

from udr.data import TaskFolder, open_collection, sample
from udr_training.evaluation import Estimate, mean, task_estimate

TASKS = "sst5,trec,snli,comv,commongen"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--tasks", dest="names", default=TASKS)
    arguments = parser.parse_args()
    paths, differences = (arguments.first, arguments.second), []
    for name, folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.items():
        first, second = (_estimate(folder, Path(path.format(task=name))) for path in paths)
        differences.append(first - second)
        print(f"{name}: {first.value:.1f} less {second.value:.1f} = {_shown(differences[-1])}")
    print(f"mean: {_shown(mean(differences))}")
    return 0


def _estimate(folder: TaskFolder, path: Path) -> Estimate:
    head, *lines = map(json.loads, path.read_text("utf-8").splitlines())
    made_from = head["made_from"]
    queries = sample(folder.rows("test"), made_from["limit"], made_from["seed"])
    if [row.id for row in queries] != [line["query"] for line in lines]:
        raise SystemExit(f"{path}: these are not the answers to this task's test rows; was it made of another folder?")
    return task_estimate(folder.task, queries, [line["text"] for line in lines], made_from["seed"])


def _shown(difference: Estimate) -> str:
    low, high = difference.interval
    return f"{difference.value:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    sys.exit(main())
