"""How far a language model follows the labels that it is shown, and what its feedback tells beyond the label.

    python benchmarks/following.py TASKS --evaluation FOLDER --run RUN [--retrievers NAME,...] [--tasks sst5,...]

From FOLDER, the output of ``udr evaluate``: the answers with those retrievers, named as in ``paired.py``, or with all.
They are pooled, those to equal prompts once; retrievers that do not show the nearest demonstration last are left out.
The accuracy by how many of the four shown have the gold label; where one has it, by its place; if the labels shown
differ, how often each place's label is the answer (the four need not add up to 1); and what wrong answers are. From
RUN, the folder of ``udr train``, on its validation queries, which also chose its checkpoint: the spread (standard
deviation) of scores among candidates of one label and among all of a query, and how often the trained encoder and its
base order two of one label as the scores do (0.5 is chance). Prints Markdown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from answers import Labelled, labelled, of_task
from measuring import parser
from quality_calls import SHOTS

from udr.data import TaskFolder, encoder_demonstration, open_collection, row_query
from udr.models import BASE_ENCODER, Encoder, load_encoder
from udr_training.candidates import RankedExample
from udr_training.feedback import watched

LEAST_ANSWERS, LEAST_DIFFERENCE = 20, 0.05
"""Cells of fewer answers are left empty; pairs of scores that differ by less do not count."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--evaluation", type=Path, required=True)
    options.add_argument("--run", type=Path, required=True)
    options.add_argument("--retrievers", default="", help="those whose answers count; all by default")
    options.add_argument("--tasks", dest="names", default="sst5,cr,subj,trec,cola,snli")
    options.add_argument("--base", default=BASE_ENCODER)
    arguments = options.parse_args()
    tasks = open_collection(arguments.tasks, arguments.names.split(",")).tasks
    retrievers = list(filter(None, arguments.retrievers.split(",")))
    answers = {name: _answers(folder, arguments.evaluation, retrievers) for name, folder in tasks.items()}
    _by_number(answers)
    _by_place(answers)
    _wrong(answers)
    _within_labels(tasks, arguments.run, arguments.base)


def _answers(folder: TaskFolder, evaluation: Path, retrievers: Sequence[str]) -> list[Labelled]:
    chosen = [each for each in of_task(evaluation, folder, retrievers) if each.nearest_last]
    return list({answer.prompt: answer for each in chosen for answer in labelled(folder, each)}.values())


def _by_number(answers: Mapping[str, Sequence[Labelled]]) -> None:
    counts = range(SHOTS + 1)
    _head("task", "answers", *(f"{count} right shown" for count in counts))
    for task, own in answers.items():
        groups = ([each for each in own if each.shown.count(each.gold) == count] for count in counts)
        _row(task, len(own), *map(_accuracy, groups))


def _by_place(answers: Mapping[str, Sequence[Labelled]]) -> None:
    places = range(SHOTS)
    heads = [f"{what} {place + 1}" for what in ("only right one at", "answers as") for place in places]
    _head("task", *heads)
    for task, own in answers.items():
        one = [each for each in own if each.shown.count(each.gold) == 1]
        groups = ([each for each in one if each.shown[place] == each.gold] for place in places)
        mixed = [each for each in own if len(set(each.shown)) > 1]
        _row(task, *map(_accuracy, groups), *(_share(each.text == each.shown[at] for each in mixed) for at in places))


def _wrong(answers: Mapping[str, Sequence[Labelled]]) -> None:
    """Print what wrong answers are, and which label is answered most, beside how often it is the gold one."""
    _head("task", "wrong", "the nearest label", "one that most have", "not shown", "answered most", "answers", "gold")
    for task, own in answers.items():
        wrong = [each for each in own if not each.right]
        texts = [each.text for each in own]
        favoured = max(sorted(set(texts)), key=texts.count)
        _row(
            task,
            _share(not each.right for each in own),
            _share(each.text == each.shown[-1] for each in wrong),
            _share(each.shown.count(each.text) > SHOTS / 2 for each in wrong),
            _share(each.text not in each.shown for each in wrong),
            favoured,
            _share(text == favoured for text in texts),
            _share(each.gold == favoured for each in own),
        )


def _within_labels(tasks: Mapping[str, TaskFolder], run: Path, base: str) -> None:
    encoders = {"trained": load_encoder(str(run / "model")), "base": load_encoder(base)}
    examples = watched(run)
    _head("task", "spread within a label", "within a query", "pairs", *encoders)
    for name, folder in tasks.items():
        label = {row.id: row.target for row in folder.rows("train")}
        groups = [_by_label(example, label) for example in examples[name]]
        within = _spread([scores.values() for group in groups for scores in group.values()])
        whole = _spread([example.scores for example in examples[name]])
        pairs = [
            (example.query_id, first, second, scores[first] - scores[second])
            for example, group in zip(examples[name], groups, strict=True)
            for scores in group.values()
            for first, second in combinations(scores, 2)
            if abs(scores[first] - scores[second]) >= LEAST_DIFFERENCE
        ]
        agreed = (f"{_agreement(folder, encoder, pairs):.2f}" for encoder in encoders.values())
        _row(name, f"{within:.2f}", f"{whole:.2f}", len(pairs), *agreed)


def _by_label(example: RankedExample, label: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return the scores of a query's candidates by label and id."""
    groups: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for id, score in zip(example.candidates, example.scores, strict=True):
        groups[label[id]][id] = score
    return groups


def _spread(groups: Sequence[Iterable[float]]) -> float:
    """Return the pooled standard deviation of groups, each about its own mean."""
    arrays = [np.array(list(group)) for group in groups]
    squares = sum(float(((own - own.mean()) ** 2).sum()) for own in arrays)
    return float(np.sqrt(squares / max(1, sum(len(own) - 1 for own in arrays))))


def _agreement(folder: TaskFolder, encoder: Encoder, pairs: Sequence[tuple[str, str, str, float]]) -> float:
    rows = {row.id: row for row in folder.rows("train")}
    queries = sorted({query for query, *_ in pairs})
    candidates = sorted({id for _, *ids, _ in pairs for id in ids})
    left = encoder.encode_queries([row_query(folder.task, rows[id]) for id in queries])
    right = encoder.encode_demonstrations([encoder_demonstration(folder.task, rows[id]) for id in candidates])
    similar = left @ right.T
    line, column = ({id: number for number, id in enumerate(ids)} for ids in (queries, candidates))
    orders = [
        (similar[line[query], column[first]] - similar[line[query], column[second]]) * difference
        for query, first, second, difference in pairs
    ]
    return float(np.mean(np.sign(orders) / 2 + 0.5))


def _accuracy(answers: Sequence[Labelled]) -> str:
    return f"{_share(each.right for each in answers)} ({len(answers)})" if len(answers) >= LEAST_ANSWERS else ""


def _share(found: Iterable[bool]) -> str:
    values = list(found)
    return f"{np.mean(values):.2f}" if values else ""


def _head(*cells: str) -> None:
    print(f"\n| {' | '.join(cells)} |\n{'|---' * len(cells)}|")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
