"""Why a retriever gains or does not, where answers are labels: what the feedback prefers, and what is shown.

    python benchmarks/labels.py TASKS --run RUN --evaluation FOLDER [--tasks sst5,...]

From RUN, the folder of ``udr train``: the mean score of candidates with the query's target and of others, and how
often one of the first scores above one of the second. From FOLDER, the output of ``udr evaluate``: for each retriever,
the share of the demonstrations shown that have the gold label, the accuracy, and how often the language model says what
the nearest demonstration says. Prints Markdown.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from udr.data import Collection, open_collection


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--tasks", dest="names", default="sst5,cr,subj,trec,cola,snli")
    arguments = parser.parse_args()
    collection = open_collection(arguments.tasks, arguments.names.split(","))
    _feedback(collection, arguments.run)
    print()
    _shown(collection, arguments.evaluation)
    return 0


def _feedback(collection: Collection, run: Path) -> None:
    udr = str(Path(sys.executable).with_name("udr"))
    lines = subprocess.run(
        [udr, "feedback", "export", str(run)], check=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    targets = {name: {row.id: row.target for row in folder.rows("train")} for name, folder in collection.tasks.items()}
    scores: dict[str, dict[tuple[str, bool], list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in map(json.loads, lines):
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
            float(one > other) + float(one == other) / 2
            for (query, same), own in by_query.items()
            if same
            for one in own
            for other in by_query.get((query, False), [])
        ]
        print(f"| {task} | {sides[True]:.2f} | {sides[False]:.2f} | {np.mean(above):.3f} |")


def _shown(collection: Collection, evaluation: Path) -> None:
    print("| task | retriever | gold's share of what is shown | accuracy | says what the nearest says |")
    print("|---|---|---|---|---|")
    for name, folder in collection.tasks.items():
        target = {split: {row.id: row.target for row in folder.rows(split)} for split in ("train", "test")}
        for path in sorted((evaluation / "predictions" / name).glob("*.jsonl")):
            header, *answers = map(json.loads, path.read_text("utf-8").splitlines())
            figures = []
            for answer in answers:
                gold = target["test"][answer["query"]]
                labels = [target["train"][id] for id in answer["demonstrations"]]
                figures.append(
                    (np.mean([label == gold for label in labels]), answer["text"] == gold, answer["text"] == labels[-1])
                )
            share, accuracy, nearest = np.mean(figures, axis=0)
            print(f"| {name} | {header['retriever']} | {share:.2f} | {accuracy:.2f} | {nearest:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
