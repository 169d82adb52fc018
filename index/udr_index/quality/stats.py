"""Statistics of a collection's rows: numbers, lengths, labels, fields; by task and split."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from udr.data import FEWEST_SENTENCES, Kind, TaskFolder, input_text, value_text
from udr.errors import DataError
from udr.models import TextLM, load_tokenizer
from udr.types import Json, Row
from udr_index.quality.long_rows import LongRows
from udr_index.quality.splits import open_tasks, read_splits

_MAX_LABELS = 5
_HEAD = ("task", "split", "rows", *("median", "95 %", "longest") * 2, "fields", "labels or choices")
_NUMBERS = range(2, 9)
"""The columns of numbers, which are right-aligned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """The lengths of some texts: the median, the 95th percentile and the maximum."""

    median: int
    percentile_95: int
    longest: int

    @classmethod
    def of(cls, lengths: Iterable[int]) -> "Lengths":
        """Summarise lengths; at least one."""
        ordered = sorted(lengths)
        # In integers: 0.95 * 20 is more than 19.
        median, percentile_95, longest = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 100))
        return cls(median=median, percentile_95=percentile_95, longest=longest)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitStats:
    """Statistics of the rows of a split.

    ``fields`` and ``labels`` hold how many rows have text in a field and have a label: the template's fields first, and
    labels in the task's order. ``choices`` are the fewest and the most of a row in a multiple-choice task.
    ``long`` is about rows of eight sentences and more, None without any.
    """

    task: str
    family: str
    kind: Kind
    split: str
    rows: int
    fields: Mapping[str, int]
    input: Lengths
    target: Lengths
    labels: Mapping[str, int]
    choices: tuple[int, int] | None
    long: LongRows | None

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of ``udr tasks stats --json``."""
        shares = {label: {"rows": count, "share": round(count / self.rows, 4)} for label, count in self.labels.items()}
        return asdict(self) | {"labels": shares}


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics by task and split, the unit of lengths, and the errors of what cannot be read."""

    unit: str
    splits: tuple[SplitStats, ...]
    errors: tuple[DataError, ...]

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of ``udr tasks stats --json``."""
        return {"unit": self.unit, "splits": [split.to_json() for split in self.splits]}


def collect(
    tasks: Path, names: Sequence[str] | None = None, tokenizer: str | None = None, text_lm: TextLM | None = None
) -> Statistics:
    """Read every row of a collection, or of some tasks in it, and return its statistics.

    Lengths are counted in words, or in a tokenizer's tokens without those that it adds around a text. Long rows are
    measured by their words and, if there is a ``text_lm``, by that language model.

    Raises:
        UnknownTaskError: a named task is not in the collection.
        ModelError: the tokenizer cannot be loaded.
        ConfigError: there is no task at all.
    """
    opened = open_tasks(tasks, names)
    length = _count_words if tokenizer is None else _token_counter(tokenizer)
    errors, splits = list(opened.errors.values()), list[SplitStats]()
    for folder in opened.folders.values():
        for name, rows, unreadable in read_splits(folder):
            errors += unreadable
            if rows and not unreadable:
                splits.append(_split_stats(folder, name, rows, length, text_lm))
    return Statistics("words" if tokenizer is None else "tokens", tuple(splits), tuple(errors))


def _count_words(text: str) -> int:
    return len(text.split())


def _token_counter(name: str) -> Callable[[str], int]:
    counter = load_tokenizer(name)
    added = counter.count("")
    return lambda text: counter.count(text) - added


def _split_stats(
    folder: TaskFolder, split: str, rows: Sequence[Row], length: Callable[[str], int], text_lm: TextLM | None
) -> SplitStats:
    task = folder.task
    targets = Counter(row.target for row in rows)
    filled = Counter(name for row in rows for name, value in row.input.items() if value_text(value).strip())
    present = {name for row in rows for name in row.input}
    fields = [name for name in task.fields if name in present]
    num_choices = [len(row.choices) for row in rows]
    return SplitStats(
        task=task.name,
        family=task.family,
        kind=task.kind,
        split=split,
        rows=len(rows),
        fields={name: filled[name] for name in (*fields, *sorted(present.difference(fields)))},
        input=Lengths.of(length(input_text(task, row.input, row.choices)) for row in rows),
        target=Lengths.of(length(task.verbalizer.get(row.target, row.target)) for row in rows),
        labels={label: targets[label] for label in task.labels},
        choices=(min(num_choices), max(num_choices)) if task.kind is Kind.MULTIPLE_CHOICE else None,
        long=LongRows.of(rows, text_lm),
    )


def table(statistics: Statistics) -> str:
    """Return a line per split, below two heading lines, and one per split with long rows; empty without a split."""
    rows = [_row(split) for split in statistics.splits]
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    start, inputs, targets = (sum(widths[part]) + 4 for part in (slice(3), slice(3, 6), slice(6, 9)))
    groups = f"input, {statistics.unit}".center(inputs) + "  " + f"target, {statistics.unit}".center(targets)
    lines = [" " * (start + 2) + groups]
    for row in (_HEAD, *rows):
        cells = (
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells))
    lines += [
        f"{split.task}, {split.split}: {split.long.rows} rows of {FEWEST_SENTENCES} sentences and more; medians: "
        + ", ".join(f"{name} {value:g}" for name, value in split.long.medians.items())
        + ("; " if split.long.kinds else "")
        + ", ".join(f"{number} {kind}" for kind, number in split.long.kinds.items())
        for split in statistics.splits
        if split.long is not None
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(split: SplitStats) -> tuple[str, ...]:
    fields = ", ".join(
        name if filled == split.rows else f"{name} ({_percent(filled, split.rows)} filled)"
        for name, filled in split.fields.items()
    )
    numbers = (split.rows, *astuple(split.input), *astuple(split.target))
    return (split.task, split.split, *map(str, numbers), fields, _answers(split))


def _answers(split: SplitStats) -> str:
    if split.choices is not None:
        fewest, most = split.choices
        return f"{most} choices" if fewest == most else f"{fewest} to {most} choices"
    return _labels(split.labels, split.rows)


def _labels(labels: Mapping[str, int], rows: int) -> str:
    """Return the labels with their shares: all of a few, else the most frequent and the rarest."""
    shares = {label: f"{label} {_percent(number, rows)}" for label, number in labels.items()}
    if len(labels) <= _MAX_LABELS:
        return ", ".join(shares.values())
    if len(set(labels.values())) == 1:
        return f"{len(labels)} labels, {_percent(rows // len(labels), rows)} each"
    # Of equals, the first in the task's order.
    most, fewest = max(labels, key=labels.__getitem__), min(labels, key=labels.__getitem__)
    return f"{len(labels)} labels, from {shares[most]} to {shares[fewest]}"


def _percent(number: int, rows: int) -> str:
    share = 100 * number / rows
    return f"{share:.0f} %" if share >= 10 or number == 0 else f"{share:.1f} %"
