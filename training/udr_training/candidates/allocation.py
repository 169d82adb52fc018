"""Which tasks the next queries are asked of: those where feedback says more than the labels do."""

from collections.abc import Mapping

_LEAST_WEIGHT = 0.1
"""The weight of a task whose labels explain everything, beside 1 of a task without labels."""


def later_counts(
    kind: str, wanted: Mapping[str, int], available: Mapping[str, int], explained: Mapping[str, float | None]
) -> dict[str, int]:
    """Return how many new queries later iterations ask of each task.

    Args:
        kind: ``allocated`` gives what one task lacks, or needs less, to the others; ``new`` does not.
        wanted: how many a task's pairs pay for.
        available: the most queries that a task can have.
        explained: see ``allocate``.
    """
    if kind == "allocated":
        return allocate(sum(wanted.values()), explained, available)
    return {name: min(count, available[name]) for name, count in wanted.items()}


def allocate(total: int, explained: Mapping[str, float | None], available: Mapping[str, int]) -> dict[str, int]:
    """Return how many queries to ask of each task, ``total`` in all, or all that there are.

    A task's share is in proportion to the part of the order of its scores that labels leave to chance: 1 where they
    explain half of the pairs, as chance would, down to 0.1 where they explain all. Queries are given one by one to the
    task that is furthest behind its share (Sainte-Laguë's method; ties in the order of the tasks).

    Args:
        total: of all tasks.
        explained: the share of the order that labels explain, by task, 0 to 1; None without labels.
        available: the most queries that a task can have.
    """
    weights = {name: 1.0 if share is None else _weight(share) for name, share in explained.items()}
    given = dict.fromkeys(explained, 0)
    for _ in range(min(total, sum(available[name] for name in given))):
        open_tasks = [name for name in given if given[name] < available[name]]
        given[max(open_tasks, key=lambda name: weights[name] / (2 * given[name] + 1))] += 1
    return given


def _weight(share: float) -> float:
    return min(1.0, max(_LEAST_WEIGHT, 2 * (1 - share)))
