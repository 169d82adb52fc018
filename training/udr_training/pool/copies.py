"""Rows that say what another row says: exact copies, and near copies by their words."""

from collections import Counter
from collections.abc import Sequence

from udr.data import Kind, Task, copy_text, input_words
from udr.search import OVERLAP, overlapping
from udr.types import Row
from udr_training.pool.scores import Score

COPY, NEAR, ALONE = 0.0, 0.5, 1.0

_MEANING = (
    f"{COPY:g}: the input, but for case, spaces and punctuation other than operators, is that of another row that "
    "stands for both; "
    f"{NEAR:g}: it shares {OVERLAP:g} of its words and neighbouring words with an earlier row of the same target; "
    f"{ALONE:g}: neither"
)


def copy_score(task: Task, rows: Sequence[Row]) -> Score:
    """Score each row by whether another one says the same.

    Of exact copies, the first with their most frequent target stands for all. A row near to one with another target is
    no near copy: a word may make the difference. In tasks that generate text, any target is the same. Near copies stand
    for no other row.
    """
    values, notes = [ALONE] * len(rows), dict[int, str]()
    copies: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        copies.setdefault(copy_text(task, row), []).append(position)
    for positions in copies.values():
        # Of equally frequent ones the first.
        (target, _), *_ = Counter(rows[position].target for position in positions).most_common()
        first = next(position for position in positions if rows[position].target == target)
        for position in positions:
            if position != first:
                values[position] = COPY
                other = "" if rows[position].target == target else ", which has another target"
                notes[position] = f"a copy of {rows[first].id}{other}"
    by_target: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        if values[position] == ALONE:
            by_target.setdefault("" if task.kind is Kind.GENERATION else row.target, []).append(position)
    for positions in by_target.values():
        texts = [input_words(task, rows[position].input, rows[position].choices) for position in positions]
        for one, later in overlapping(texts, chained=False):
            values[positions[later]] = NEAR
            notes.setdefault(positions[later], f"near to {rows[positions[one]].id}")
    return Score(
        name="copies",
        meaning=_MEANING,
        values=tuple(values),
        flagged_below=NEAR,
        notes=notes,
        settings={"overlap": OVERLAP},
    )
