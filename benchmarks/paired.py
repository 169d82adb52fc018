"""The difference between two retrievers of one evaluation, paired over the same test rows.

    python benchmarks/paired.py TASKS --evaluation FOLDER A B [--tasks sst5,...]

FOLDER is the output of ``udr evaluate``; A and B are names of retrievers, relative to the folder above it if they lie
there. Prints the values, and A - B with its 95 % bootstrap interval, per task and on average.
"""

from collections.abc import Sequence
from pathlib import Path

from answers import Predictions, estimate_of, of_task, shown
from measuring import parser
from quality_calls import ABLATED

from udr.data import open_collection
from udr_training.evaluation import mean


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("first")
    options.add_argument("second")
    options.add_argument("--evaluation", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default=ABLATED)
    arguments = options.parse_args(given)
    differences = []
    for name, folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.items():
        sides = [
            of_task(arguments.evaluation, folder, [retriever])[0] for retriever in (arguments.first, arguments.second)
        ]
        _refuse_other_settings(*sides)
        first, second = (estimate_of(folder, side) for side in sides)
        differences.append(first - second)
        print(f"{name}: {first.value:.1f} - {second.value:.1f} = {shown(differences[-1])}")
    print(f"mean: {shown(mean(differences))}")


def _refuse_other_settings(first: Predictions, second: Predictions) -> None:
    """Exit if the answers depend on anything else that differs."""
    names = sorted({*first.made_from, *second.made_from} - {"retriever", "udr"})
    if other := [name for name in names if first.made_from.get(name) != second.made_from.get(name)]:
        raise SystemExit(
            f"{first.path} and {second.path} differ in more than the retriever: {', '.join(other)}; answer both by one "
            "udr evaluate"
        )


if __name__ == "__main__":
    main()
