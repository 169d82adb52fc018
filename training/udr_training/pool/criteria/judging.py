"""Workers: a language model that says which of two rows is better by one criterion, or by none."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum

from udr.data import Task, formatting
from udr.types import Row
from udr_training.answering import MORE_TOKENS, without_thoughts
from udr_training.pool.criteria.known import Criterion

Ask = Callable[[Sequence[str]], list[str]]
"""Asks a model; returns its answer to each text."""

_LONGEST = 4_000
_CUT = " [cut]"
_ANSWER = re.compile(r"\A\W*(?:(?:the\s+)?answer(?:\s+is)?\W+)?(?:row\s+)?(a|b|neither)\b", re.IGNORECASE)


class Verdict(IntEnum):
    """Which of two rows is better."""

    FIRST = 1
    NEITHER = 0
    SECOND = -1
    UNREADABLE = 2
    """An answer that does not say; it counts as one for neither."""


def shown(task: Task, row: Row) -> str:
    """Return a row as models read it; what is far too long is cut, and says so."""
    text = formatting.demonstration_text(task, row)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + _CUT


_OTHER = {Verdict.FIRST: Verdict.SECOND, Verdict.SECOND: Verdict.FIRST}
_READ = {"a": Verdict.FIRST, "b": Verdict.SECOND, "neither": Verdict.NEITHER}


def judge(task: Task, criterion: Criterion, pairs: Sequence[tuple[Row, Row]], ask: Ask) -> list[Verdict]:
    """Return which row of each pair is better by a criterion.

    Every second pair is shown in the other order, so that a model that prefers a place gains nothing.
    """
    swapped = [bool(number % 2) for number in range(len(pairs))]
    texts = [
        _question(task, criterion, *(pair[::-1] if swap else pair)) for pair, swap in zip(pairs, swapped, strict=True)
    ]
    verdicts = map(read_verdict, ask(texts))
    return [_OTHER.get(verdict, verdict) if swap else verdict for verdict, swap in zip(verdicts, swapped, strict=True)]


def read_verdict(text: str) -> Verdict:
    """Return what a worker's answer says."""
    found = _ANSWER.match(without_thoughts(text))
    return _READ[found[1].lower()] if found else Verdict.UNREADABLE


def say_unreadable(verdicts: Sequence[Verdict]) -> str:
    """Return how many verdicts cannot be read, and what to do; empty if all can."""
    count = sum(verdict is Verdict.UNREADABLE for verdict in verdicts)
    return f"; {count} of {len(verdicts)} verdicts cannot be read: {MORE_TOKENS}" if count else ""


def majority(votes: Sequence[Verdict]) -> Verdict:
    """Return the verdict of most votes for a row; a tie is for neither."""
    counts = Counter(votes)
    first, second = counts[Verdict.FIRST], counts[Verdict.SECOND]
    return Verdict((first > second) - (first < second))


def _question(task: Task, criterion: Criterion, first: Row, second: Row) -> str:
    return formatting.SEPARATOR.join(
        (
            "Two rows of a task are to serve as examples. Say which is better by one criterion alone.",
            f"Task: {task.instruction}",
            f"Criterion: {criterion.name}. {criterion.text}",
            f"Row A:\n{shown(task, first)}",
            f"Row B:\n{shown(task, second)}",
            "Which row is better by this criterion? Answer with A, B or neither, and nothing else.",
        )
    )
