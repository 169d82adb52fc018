"""How far a language model follows the labels that it is shown, and what its feedback tells beyond the label.

    python benchmarks/following.py TASKS --evaluation FOLDER --run RUN [--tasks sst5,...]

From FOLDER, the output of ``udr evaluate`` with any retrievers, whose answers are pooled: the accuracy by how many of
the four shown have the gold label; where one has it, by its place, the nearest to the query last; how often each
place's label is the answer; and what wrong answers are. From RUN, the folder of ``udr train``, on the queries that it
held out: how far scores spread among candidates of one label, and how often the trained encoder and its base order two
of them as the scores do (0.5 is chance). Prints Markdown.
"""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from measuring import UDR, parser
from quality import SHOTS

from udr.data import TaskFolder, encoder_demonstration, open_collection, row_query
from udr.models import BASE_ENCODER, Encoder, load_encoder
from udr_training import RunFolder
from udr_training.config import RunConfig

LEAST_ANSWERS, LEAST_DIFFERENCE = 20, 0.05
"""Cells of fewer answers are left empty; pairs of scores that differ by less do not count."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The gold label of a query, the labels shown, the nearest last, and the answer."""

    gold: str
    shown: tuple[str, ...]
    text: str

    @property
    def right(self) -> bool:
        """Whether the answer is the gold label."""
        return self.text == self.gold


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--evaluation", type=Path, required=True)
    options.add_argument("--run", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default="sst5,cr,subj,trec,cola,snli")
    options.add_argument("--base", default=BASE_ENCODER)
    arguments = options.parse_args()
    tasks = open_collection(arguments.tasks, arguments.names.split(",")).tasks
    answers = {name: list(_answers(folder, arguments.evaluation)) for name, folder in tasks.items()}
    _by_number(answers)
    _by_place(answers)
    _wrong(answers)
    _within_labels(tasks, arguments.run, arguments.base)


def _answers(folder: TaskFolder, evaluation: Path) -> Iterator[Answer]:
    target = {split: {row.id: row.target for row in folder.rows(split)} for split in ("train", "test")}
    for path in sorted((evaluation / "predictions" / folder.task.name).glob(f"*.{SHOTS}-shot.jsonl")):
        for line in map(json.loads, path.read_text("utf-8").splitlines()[1:]):
            shown = tuple(target["train"][id] for id in line["demonstrations"])
            yield Answer(target["test"][line["query"]], shown, line["text"])


def _by_number(answers: dict[str, list[Answer]]) -> None:
    counts = range(SHOTS + 1)
    _head("task", "answers", *(f"{count} right shown" for count in counts))
    for task, own in answers.items():
        groups = ([each for each in own if each.shown.count(each.gold) == count] for count in counts)
        _row(task, len(own), *map(_accuracy, groups))


def _by_place(answers: dict[str, list[Answer]]) -> None:
    places = range(SHOTS)
    heads = [f"{what} {place + 1}" for what in ("only right one at", "answers as") for place in places]
    _head("task", *heads)
    for task, own in answers.items():
        one = [each for each in own if each.shown.count(each.gold) == 1]
        groups = ([each for each in one if each.shown[place] == each.gold] for place in places)
        # Where all labels are alike, every place is repeated.
        mixed = [each for each in own if len(set(each.shown)) > 1]
        repeated = (f"{np.mean([each.text == each.shown[place] for each in mixed]):.2f}" for place in places)
        _row(task, *map(_accuracy, groups), *repeated)


def _wrong(answers: dict[str, list[Answer]]) -> None:
    """Print what wrong answers are, and which label is answered most, beside how often it is right."""
    _head("task", "wrong", "the nearest label", "one that most have", "not shown", "answered most", "answers", "gold")
    for task, own in answers.items():
        wrong = [each for each in own if not each.right]
        texts = [each.text for each in own]
        favoured = max(sorted(set(texts)), key=texts.count)
        shares = (
            len(wrong) / len(own),
            np.mean([each.text == each.shown[-1] for each in wrong]),
            np.mean([each.shown.count(each.text) == max(map(each.shown.count, each.shown)) for each in wrong]),
            np.mean([each.text not in each.shown for each in wrong]),
        )
        both = (texts.count(favoured) / len(own), np.mean([each.gold == favoured for each in own]))
        _row(task, *(f"{share:.2f}" for share in shares), favoured, *(f"{share:.2f}" for share in both))


def _within_labels(tasks: Mapping[str, TaskFolder], run: Path, base: str) -> None:
    encoders = {"trained": load_encoder(str(run / "model")), "base": load_encoder(base)}
    scores = _held_out(run)
    _head("task", "spread within a label", "over all", "pairs", *encoders)
    for name, folder in tasks.items():
        rows = {row.id: row for row in folder.rows("train")}
        pairs: list[tuple[str, str, str, float]] = []
        within, overall = [], []
        for query, own in scores[name].items():
            overall.append(np.std(list(own.values())))
            by_label: defaultdict[str, list[str]] = defaultdict(list)
            for id in own:
                by_label[rows[id].target].append(id)
            for ids in by_label.values():
                if len(ids) > 1:
                    within.append(np.std([own[id] for id in ids]))
                pairs += [(query, a, b, own[a] - own[b]) for a, b in combinations(ids, 2)]
        clear = [pair for pair in pairs if abs(pair[-1]) >= LEAST_DIFFERENCE]
        agreed = (f"{_agreement(folder, encoder, clear):.2f}" for encoder in encoders.values())
        _row(name, f"{np.mean(within):.2f}", f"{np.mean(overall):.2f}", len(clear), *agreed)


def _held_out(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores of the queries that a training of one iteration held out, by task, query and candidate."""
    export = subprocess.run([UDR, "feedback", "export", run], check=True, stdout=subprocess.PIPE)
    scores: defaultdict[str, defaultdict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for pair in map(json.loads, export.stdout.splitlines()):
        scores[pair["task"]][pair["query_id"]][pair["demonstration_id"]] = pair["score"]
    train = RunFolder(run).config(RunConfig).train
    return {name: dict(list(own.items())[train.num_learned(len(own)) :]) for name, own in scores.items()}


def _agreement(folder: TaskFolder, encoder: Encoder, pairs: Sequence[tuple[str, str, str, float]]) -> float:
    rows = {row.id: row for row in folder.rows("train")}
    queries = sorted({query for query, *_ in pairs})
    candidates = sorted({id for _, *ids, _ in pairs for id in ids})
    left = encoder.encode_queries([row_query(folder.task, rows[id]) for id in queries])
    right = encoder.encode_demonstrations([encoder_demonstration(folder.task, rows[id]) for id in candidates])
    table = left @ right.T
    line, column = ({id: number for number, id in enumerate(ids)} for ids in (queries, candidates))
    orders = [
        (table[line[query], column[a]] - table[line[query], column[b]]) * difference
        for query, a, b, difference in pairs
    ]
    return float(np.mean(np.sign(orders) / 2 + 0.5))


def _accuracy(answers: Sequence[Answer]) -> str:
    if len(answers) < LEAST_ANSWERS:
        return ""
    return f"{np.mean([each.right for each in answers]):.2f} ({len(answers)})"


def _head(*cells: str) -> None:
    print(f"\n| {' | '.join(cells)} |\n{'|---' * len(cells)}|")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
