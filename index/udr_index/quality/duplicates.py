"""Copies: rows of one split, or of two, whose inputs are equal as retrieval excludes copies of a query.

Case, spaces and punctuation other than operators and emoticons make no difference.

The kind of a group of copies within a split depends on what else they share:

    the target too, or an answer that all accept  duplicate
    not the target                                conflicting_targets; several_answers in a generation task
    in multiple choice, not the choices           other_choices
"""

from collections.abc import Iterator, Sequence

from udr.data import Kind as TaskKind
from udr.data import Task
from udr.types import Row
from udr_index.plural import counted
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split

_MESSAGES = {
    Kind.DUPLICATE: "{repeat} input and target of an earlier row; keep one of each",
    Kind.CONFLICTING_TARGETS: "{share} but not the target; keep the correct one and remove the others",
    Kind.SEVERAL_ANSWERS: "{share} but not the target; if all are correct, keep one row with all of them as references",
    Kind.OTHER_CHOICES: (
        "{share} but not the choices, and retrieval treats them as copies of one another; if they are intended, "
        "name {{choices}} in the input template"
    ),
}


def copies_within(split: Split) -> Iterator[Finding]:
    """Yield the findings about copies within a split."""
    by_kind: dict[Kind, list[Sequence[int]]] = {}
    for positions in split.copies.values():
        for kind, group in _classify(split, positions):
            by_kind.setdefault(kind, []).append(group)
    for kind, groups in by_kind.items():
        num_rows = sum(map(len, groups))
        count = num_rows - len(groups) if kind is Kind.DUPLICATE else num_rows
        message = _MESSAGES[kind].format(
            repeat=counted(count, "row repeats", "rows repeat"),
            share=f"{counted(count, 'row')} share {counted(len(groups), 'input')}",
        )
        yield split.finding(kind, count, message, [split.ids(group) for group in groups])


def _classify(split: Split, positions: Sequence[int]) -> Iterator[tuple[Kind, Sequence[int]]]:
    """Yield the kinds of findings about rows that share one input."""
    by_choices: dict[frozenset[str], list[int]] = {}
    for position in positions:
        by_choices.setdefault(frozenset(map(_plain, split.rows[position].choices)), []).append(position)
    if len(by_choices) > 1:
        yield Kind.OTHER_CHOICES, [group[0] for group in by_choices.values()]
    for group in by_choices.values():
        if len(group) < 2:
            continue
        if frozenset.intersection(*(_answers(split.task, split.rows[position]) for position in group)):
            yield Kind.DUPLICATE, group
        elif split.task.kind is TaskKind.GENERATION:
            yield Kind.SEVERAL_ANSWERS, group
        else:
            yield Kind.CONFLICTING_TARGETS, group


def _answers(task: Task, row: Row) -> frozenset[str]:
    references = row.references if task.kind is TaskKind.GENERATION else ()
    return frozenset(map(_plain, (row.target, *references)))


def _plain(text: str) -> str:
    # Unlike inputs, answers are not compared by letters and digits alone: `a + b` and `a - b` are two.
    return " ".join(text.split())


def leaks(split: Split, earlier: Split) -> Iterator[Finding]:
    """Yield the rows of a split whose input is also in an earlier split."""
    pairs = [
        (split.rows[position].id, earlier.rows[earlier.copies[key][0]].id)
        for key, positions in split.copies.items()
        if key in earlier.copies
        for position in positions
    ]
    if pairs:
        message = (
            f"{split.part(len(pairs))} the input of a row of {earlier.name}; remove them from one of the two, or "
            f"results on {split.name} will be too good"
        )
        yield split.finding(Kind.LEAK, len(pairs), message, pairs, against=earlier.name)
