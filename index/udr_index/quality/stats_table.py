"""Statistics as a table for people."""

from collections.abc import Mapping, Sequence

from udr_index.quality.stats import Lengths, SplitStats, Statistics

_ALL_LABELS = 5
_HEAD = ("task", "split", "rows", *("median", "95 %", "longest") * 2, "fields", "labels or choices")
_NUMBERS = range(2, 9)
"""The columns that are numbers, and stand to the right."""
_GAP = "  "


def table(statistics: Statistics) -> str:
    """Return a line a split, under two of heads; empty where there is no split."""
    rows = [_row(split) for split in statistics.splits]
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    groups = [f"{what}, {statistics.unit}" for what in ("input", "target")]
    above = "".join(
        [
            " " * (sum(widths[:3]) + 3 * len(_GAP)),
            groups[0].center(sum(widths[3:6]) + 2 * len(_GAP)),
            _GAP,
            groups[1].center(sum(widths[6:9]) + 2 * len(_GAP)),
        ]
    )
    return "\n".join([above.rstrip(), *(_line(row, widths) for row in (_HEAD, *rows))])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = (
        cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return _GAP.join(placed).rstrip()


def _row(split: SplitStats) -> tuple[str, ...]:
    lengths = (*_lengths(split.inputs), *_lengths(split.targets))
    return (split.task, split.split, str(split.rows), *lengths, _fields(split), _answers(split))


def _lengths(lengths: Lengths) -> tuple[str, str, str]:
    return str(lengths.median), str(lengths.percentile_95), str(lengths.longest)


def _fields(split: SplitStats) -> str:
    return ", ".join(
        name if filled == split.rows else f"{name} ({_percent(filled, split.rows)} filled)"
        for name, filled in split.fields.items()
    )


def _answers(split: SplitStats) -> str:
    if split.choices is not None:
        fewest, most = split.choices
        return f"{most} choices" if fewest == most else f"{fewest} to {most} choices"
    return _labels(split.labels, split.rows)


def _labels(labels: Mapping[str, int], rows: int) -> str:
    """Return the labels with their shares: all of a few, of many the most frequent and the rarest."""
    shares = {label: f"{label} {_percent(number, rows)}" for label, number in labels.items()}
    if len(labels) <= _ALL_LABELS:
        return ", ".join(shares.values())
    if len(set(labels.values())) == 1:
        return f"{len(labels)} labels, {_percent(rows // len(labels), rows)} each"
    # Of equals, the first in the task's order.
    most, fewest = max(labels, key=labels.__getitem__), min(labels, key=labels.__getitem__)
    return f"{len(labels)} labels, from {shares[most]} to {shares[fewest]}"


def _percent(number: int, rows: int) -> str:
    share = 100 * number / rows
    return f"{share:.0f} %" if share >= 10 or number == 0 else f"{share:.1f} %"
