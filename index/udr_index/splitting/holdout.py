"""Held-out test rows: the same share of each label, and rows that ask the same all in one split."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from udr.data import Kind, Task, copy_text, input_words, sample_by
from udr.errors import ConfigError
from udr.search import overlapping
from udr.types import Row
from udr_index.plural import counted
from udr_index.splitting.groups import group

_log = logging.getLogger(__name__)

TEST_SHARE = 0.2
"""The share of the rows that are held out by default."""

MOST_TEST_ROWS = 500
"""The most rows that are held out by default: more would cost demonstrations, and say little more."""

NEARLY_REPEAT = "nearly repeat another, and such rows lie in one file"
"""What is said of near-duplicates."""

Pairs = Callable[[Sequence[int], Sequence[int]], list[tuple[int, int]]]
"""Returns which of some positions (the first) are near to which of others: pairs of positions."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The rows that train and the rows that test, each in their order.

    Attributes:
        train: the rows that stay in the pool.
        test: the held-out rows, none if there are too few.
        together: the number of rows with a copy or a near-duplicate, all kept in the split of theirs; 0 if none is held
            out, since then none are looked for.
        notice: what was to be held out, what is, why, and what to do; empty if it is the same.
    """

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    together: int
    notice: str = ""


def split_rows(
    task: Task, rows: Sequence[Row], test_rows: int | None = None, seed: int = 0, near: Pairs | None = None
) -> Holdout:
    """Hold out rows for the test, each label in the same proportion.

    Copies of an input and inputs that share most of their words stay in one split.

    Args:
        task: the task of the rows.
        rows: the rows, of which at least one stays in training, and one of each label.
        test_rows: how many to hold out; None is a fifth, at most 500. Groups that do not fit make it
            fewer or more, as the notice tells.
        seed: selects the rows, together with their ids.
        near: more near-duplicates, such as an encoder finds; they stay in one split, too.

    Raises:
        ConfigError: ``test_rows`` is negative, or leaves no row for training.
    """
    size = min(int(len(rows) * TEST_SHARE), MOST_TEST_ROWS) if test_rows is None else test_rows
    if not 0 <= size < max(len(rows), 1):
        raise ConfigError(f"--test-rows must be from 0 to {len(rows) - 1}, one less than there are rows; found {size}")
    if not size:
        return Holdout(tuple(rows), (), 0)
    _log.info("%s: comparing %s with one another ...", task.name, counted(len(rows), "row"))
    strata = [row.target if task.kind is Kind.CLASSIFICATION else "" for row in rows]
    pairs = [*_copies(task, rows), *overlapping([input_words(task, row.input, row.choices) for row in rows])]
    while True:
        groups = group(len(rows), pairs)
        keys = [min(rows[position].id for position in members) for members in groups]
        test = hold_out(groups, strata, keys, size, seed)
        train = [position for position in range(len(rows)) if position not in test]
        # Each round joins at least two groups, so this ends.
        more = near(sorted(test), train) if near is not None and test else []
        if not more:
            break
        pairs += more
    return Holdout(
        tuple(rows[position] for position in train),
        tuple(rows[position] for position in sorted(test)),
        sum(len(members) for members in groups if len(members) > 1),
        _notice(groups, strata, size, test),
    )


def _copies(task: Task, rows: Sequence[Row]) -> Iterable[tuple[int, int]]:
    first: dict[str, int] = {}
    for position, row in enumerate(rows):
        yield first.setdefault(copy_text(task, row), position), position


def hold_out(
    groups: Sequence[Sequence[int]], strata: Sequence[str], keys: Sequence[str], size: int, seed: int
) -> set[int]:
    """Return the positions to hold out, whole groups.

    Those that fit each stratum's quota come first, in an order by seed and key; then the smallest of the others that
    bring the numbers nearer to the quotas. A row of each stratum stays.
    """
    stay = Counter(strata)
    left = Counter(quotas(stay, size))
    test: set[int] = set()

    def fits(needed: Counter[str]) -> bool:
        return all(count <= left[stratum] for stratum, count in needed.items())

    def brings_nearer(needed: Counter[str]) -> bool:
        after = sum(abs(left[stratum] - count) for stratum, count in needed.items())
        return after < sum(abs(left[stratum]) for stratum in needed) and _leaves_some(needed, stay)

    order = sample_by(range(len(groups)), None, seed, lambda number: keys[number])
    for may_go, numbers in ((fits, order), (brings_nearer, sorted(order, key=lambda number: len(groups[number])))):
        for number in numbers:
            needed = Counter(strata[position] for position in groups[number])
            if groups[number][0] not in test and may_go(needed):
                test.update(groups[number])
                left.subtract(needed)
                stay.subtract(needed)
    return test


def _leaves_some(needed: Mapping[str, int], stay: Mapping[str, int]) -> bool:
    return all(count < stay[stratum] for stratum, count in needed.items())


def _notice(groups: Sequence[Sequence[int]], strata: Sequence[str], size: int, test: set[int]) -> str:
    counts, held = Counter(strata), Counter(strata[position] for position in test)
    wanted = quotas(counts, size)
    if len(test) == size and held == Counter(wanted):
        return ""
    like = ", each label in the same proportion" if len(counts) > 1 else ""
    others = ", in other proportions" if len(test) == size else ""
    asked = f"{counted(size, 'test row was', 'test rows were')} to be held out{like}; {len(test) or 'none'} are{others}"
    if len(groups) == len(strata):
        return f"{asked}, since a row of each label stays; add rows of its labels"
    lacking = {stratum for stratum, number in wanted.items() if held[stratum] < number}
    may_go = any(
        members[0] not in test and needed.keys() & lacking and _leaves_some(needed, counts)
        for members in groups
        for needed in [Counter(strata[position] for position in members)]
    )
    return (
        f"{asked}, since near-duplicates lie in one file: {len(strata)} rows make "
        f"{counted(len(groups), 'group')} of them, the largest of {max(map(len, groups))}; "
        f"add rows that are worded differently{', or give another --test-rows' * may_go}"
    )


def quotas(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """Return how many rows of each stratum to hold out, by largest remainders; at least one of each stays."""
    total = sum(counts.values())
    result = {stratum: size * count // total for stratum, count in counts.items()}
    by_remainder = sorted(counts, key=lambda stratum: (-(size * counts[stratum] % total), stratum))
    for stratum in by_remainder[: size - sum(result.values())]:
        result[stratum] += 1
    return {stratum: min(number, counts[stratum] - 1) for stratum, number in result.items()}
