"""Rows whose text is cut short, far too long, or repeats itself, by what is usual in the pool."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from udr.data import Kind, Task, value_text
from udr.search import RULE, RULES
from udr.types import Row
from udr_training.pool.scores import Score

FLAGGED_BELOW, _NOTED_BELOW = 0.25, 0.5

_END_MARKS = ".!?…。！？．｡؟।"
_CLOSERS = "\"'`’”»›)]}）】」』》*_ \t\r\n"
"""What may follow the mark."""

_USUAL, _LEAST_SPREAD, _FEWEST_PAIRS = 3.0, 0.25, 50
"""Robust standard deviations within which a length is usual, the least of one (of the logarithms of lengths), and the
fewest pairs of words of a text that is judged by repetition."""

_MEANING = (
    "the lowest of three, over the input's fields, and the target if the task generates text: the share of the pool's "
    "texts that end as this does, with a mark such as a full stop or without; how usual a long text is, halved by each "
    f"robust standard deviation beyond {_USUAL:g} of the logarithms of lengths; the share of different pairs of words "
    f"in texts of {_FEWEST_PAIRS} and more; 0 without any text"
)


def length_score(task: Task, rows: Sequence[Row]) -> Score:
    """Score each row by how usual its endings and lengths are in the pool, and by how little it repeats itself."""
    values, notes = [1.0] * len(rows), dict[int, str]()
    texts = {name: [value_text(row.input.get(name, "")) for row in rows] for name in task.fields}
    if task.kind is Kind.GENERATION:
        texts["target"] = [row.target for row in rows]
    for name, own in texts.items():
        for position, (value, reason) in enumerate(_judged(own)):
            if value < values[position]:
                values[position] = value
                if value < _NOTED_BELOW:
                    notes[position] = f"{name} {reason}"
    for position in range(len(rows)):
        if not any(own[position].strip() for own in texts.values()):
            values[position], notes[position] = 0.0, "no text"
    return Score(
        name="length",
        meaning=_MEANING,
        values=tuple(round(value, 6) for value in values),
        flagged_below=FLAGGED_BELOW,
        notes=notes,
        settings={"usual": _USUAL, "fewest_pairs": _FEWEST_PAIRS},
    )


def _judged(texts: Sequence[str]) -> Iterable[tuple[float, str]]:
    """Yield the lowest of a field's three scores for each row, and what it says."""
    written = [text for text in texts if text.strip()]
    marked = sum(map(ends_with_mark, written)) / max(len(written), 1)
    lengths = np.array([math.log(len(text)) for text in written] or [0.0])
    middle = float(np.median(lengths))
    spread = max(1.4826 * float(np.median(np.abs(lengths - middle))), 0.1)
    for text in texts:
        if not text.strip():
            yield 1.0, ""
            continue
        ends, beyond = ends_with_mark(text), (math.log(len(text)) - middle) / spread
        yield min(
            (marked if ends else 1 - marked, f"ends {'with' if ends else 'without'} a mark, unlike most"),
            (2.0 ** min(0.0, _USUAL - beyond), f"has {len(text)} characters, {math.exp(middle):.0f} are usual"),
            (distinct_pairs(text), "repeats itself"),
        )


def ends_with_mark(text: str) -> bool:
    """Return whether a text ends as a sentence does, with a mark that quotes or brackets may follow."""
    return text.rstrip(_CLOSERS).endswith(tuple(_END_MARKS))


def distinct_pairs(text: str) -> float:
    """Return the share of different ones among a text's pairs of neighbouring words; 1 for a short text."""
    pairs = list(pairwise(RULES[RULE](text)))
    return len(set(pairs)) / len(pairs) if len(pairs) >= _FEWEST_PAIRS else 1.0
