"""Copies: rows of one split, or of two, whose worded inputs have the same letters and digits.

What is said of the copies within a split depends on what else they share. Each group of copies is told of once:

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


def copies_within(split: Split) -> Iterator[Finding]:
    """Yield what is wrong with the copies within a split."""
    found: dict[Kind, list[Sequence[int]]] = {}
    for positions in split.copies.values():
        for kind, group in _told(split, positions):
            found.setdefault(kind, []).append(group)
    for kind, groups in found.items():
        num_rows = sum(len(group) for group in groups)
        count = num_rows - len(groups) if kind is Kind.DUPLICATE else num_rows
        message = _MESSAGES[kind].format(
            repeat=f"{counted(count, 'row repeats', 'rows repeat')}",
            share=f"{counted(count, 'row')} share {counted(len(groups), 'input')}",
        )
        yield split.finding(kind, count, message, [split.ids(group) for group in groups])


_MESSAGES = {
    Kind.DUPLICATE: "{repeat} input and target of an earlier row; keep one of each",
    Kind.CONFLICTING_TARGETS: "{share} but not the target; find out which is right and remove the others",
    Kind.SEVERAL_ANSWERS: "{share} but not the target; if all are right, keep one row with all of them as references",
    Kind.OTHER_CHOICES: (
        "{share} but not the choices, and retrieval takes them for copies of one another; if they are meant, "
        "name {{choices}} in the input template"
    ),
}


def _told(split: Split, positions: Sequence[int]) -> Iterator[tuple[Kind, Sequence[int]]]:
    """Yield what is to be said of the rows that have one input."""
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
    """Return the answers that a row accepts."""
    if task.kind is TaskKind.GENERATION:
        return frozenset(map(_plain, (row.target, *row.references)))
    return frozenset([_plain(row.target)])


def _plain(text: str) -> str:
    # Not by letters and digits, as inputs are: `a + b` and `a - b` are two answers.
    return " ".join(text.split())


def leaks(split: Split, earlier: Split) -> Iterator[Finding]:
    """Yield the rows of a split whose input an earlier split has as well."""
    pairs = [
        (split.rows[position].id, earlier.rows[earlier.copies[key][0]].id)
        for key, positions in split.copies.items()
        if key in earlier.copies
        for position in positions
    ]
    if pairs:
        message = (
            f"{split.part(len(pairs))} the input of a row of {earlier.name}; remove them from one of the two, or what"
            f" is measured on {split.name} is too good"
        )
        yield split.finding(Kind.LEAK, len(pairs), message, pairs, against=earlier.name)
