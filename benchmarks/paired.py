"""The difference between two retrievers from separate evaluations, paired over the same test rows.

    python benchmarks/paired.py TASKS FOLDER/predictions/{task}/A.4-shot.jsonl FOLDER/predictions/{task}/B.4-shot.jsonl

The two paths are predictions of ``udr evaluate``, with ``{task}`` for the task's name. Prints the values, and A - B
with its 95 % bootstrap interval, per task and on average.
"""

import json
from pathlib import Path

from measuring import parser
from quality_calls import ABLATED

from udr.data import TaskFolder, open_collection, sample
from udr_training.evaluation import Estimate, mean, task_estimate


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("first")
    options.add_argument("second")
    options.add_argument("--tasks", dest="names", default=ABLATED)
    arguments = options.parse_args()
    paths, differences = (arguments.first, arguments.second), []
    for name, folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.items():
        first, second = (estimate_of(folder, Path(path.format(task=name))) for path in paths)
        differences.append(first - second)
        print(f"{name}: {first.value:.1f} - {second.value:.1f} = {shown(differences[-1])}")
    print(f"mean: {shown(mean(differences))}")


def estimate_of(folder: TaskFolder, path: Path) -> Estimate:
    """Return a task's value from a file of predictions."""
    head, *lines = map(json.loads, path.read_text("utf-8").splitlines())
    made_from = head["made_from"]
    queries = sample(folder.rows("test"), made_from["limit"], made_from["seed"])
    if [row.id for row in queries] != [line["query"] for line in lines]:
        raise SystemExit(
            f"{path}: these predictions are not for this task's test rows; are they from another collection?"
        )
    return task_estimate(folder.task, queries, [line["text"] for line in lines], made_from["seed"])


def shown(difference: Estimate) -> str:
    """Return a difference with its interval."""
    low, high = difference.interval
    return f"{difference.value:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
