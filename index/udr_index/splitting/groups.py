"""Groups: what pairs join, directly or through others."""

from collections.abc import Iterable


def group(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the positions below ``count`` in groups that the pairs join, each sorted, by their first positions."""
    parents = list(range(count))

    def root(position: int) -> int:
        while parents[position] != position:
            # Halving the path keeps all paths short.
            parents[position] = position = parents[parents[position]]
        return position

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    groups: dict[int, list[int]] = {}
    for position in range(count):
        groups.setdefault(root(position), []).append(position)
    return list(groups.values())
