"""Why a retriever gains on classification tasks, or not: what the feedback prefers, and what prompts show.

    python benchmarks/labels.py TASKS --run RUN --evaluation FOLDER [--tasks sst5,...]

From RUN, the folder of ``udr train``: the mean score of candidates with the query's target and of others, and how often
one of the former scores above one of the latter. From FOLDER, the output of ``udr evaluate``: for each retriever, the
share of shown demonstrations with the gold label, the accuracy, and how often the language model repeats the nearest
demonstration's label. Prints Markdown.
"""

import json
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
from answers import labelled, of_task
from measuring import UDR, parser

from udr.data import Collection, open_collection


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--run", type=Path, required=True)
    options.add_argument("--evaluation", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default="sst5,cr,subj,trec,cola,snli")
    arguments = options.parse_args()
    collection = open_collection(arguments.tasks, arguments.names.split(","))
    _feedback(collection, arguments.run)
    print()
    _shown(collection, arguments.evaluation)


def _feedback(collection: Collection, run: Path) -> None:
    export = subprocess.run([UDR, "feedback", "export", run], check=True, stdout=subprocess.PIPE)
    targets = {name: {row.id: row.target for row in folder.rows("train")} for name, folder in collection.tasks.items()}
    scores: dict[str, dict[tuple[str, bool], list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in map(json.loads, export.stdout.splitlines()):
        if (of := targets.get(pair["task"])) is not None:
            same = of[pair["query_id"]] == of[pair["demonstration_id"]]
            scores[pair["task"]][pair["query_id"], same].append(pair["score"])
    print("| task | same target | other | same above other |\n|---|---|---|---|")
    for task, by_query in scores.items():
        sides = {
            side: np.mean([s for (_, same), own in by_query.items() if same == side for s in own])
            for side in (True, False)
        }
        above = [
            float(score > other) + float(score == other) / 2
            for (query, same), own in by_query.items()
            if same
            for score in own
            for other in by_query.get((query, False), [])
        ]
        print(f"| {task} | {sides[True]:.2f} | {sides[False]:.2f} | {np.mean(above):.3f} |")


def _shown(collection: Collection, evaluation: Path) -> None:
    print("| task | retriever | share of gold labels shown | accuracy | repeats the nearest |")
    print("|---|---|---|---|---|")
    for name, folder in collection.tasks.items():
        for each in of_task(evaluation, folder):
            own = labelled(folder, each)
            share = np.mean([label == answer.gold for answer in own for label in answer.shown])
            nearest = f"{np.mean([answer.text == answer.shown[-1] for answer in own]):.2f}" if each.nearest_last else ""
            right = np.mean([answer.right for answer in own])
            print(f"| {name} | {each.retriever} | {share:.2f} | {right:.2f} | {nearest} |")


if __name__ == "__main__":
    main()
