"""What the rows of a collection are like: numbers, lengths, labels, fields; by task and split."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.data import Kind, TaskFolder, input_text, value_text
from udr.errors import DataError
from udr.models import load_tokenizer
from udr.types import Json, Row
from udr_index.quality.splits import open_tasks, read_split, splits_of

Length = Callable[[str], int]
"""How long a text is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """How long some texts are. Each number is the length of one of them.

    Attributes:
        median: the least length that half of the texts do not exceed.
        percentile_95: the least length that 95 % of the texts do not exceed.
        longest: the greatest.
    """

    median: int
    percentile_95: int
    longest: int

    @classmethod
    def of(cls, lengths: Iterable[int]) -> "Lengths":
        """Return how long texts of these lengths are; at least one."""
        ordered = sorted(lengths)
        # In whole numbers: 0.95 * 20 is more than 19.
        at = [ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 100)]
        return cls(median=at[0], percentile_95=at[1], longest=at[2])

    def to_json(self) -> dict[str, Json]:
        """Return it as ``udr tasks stats --json`` shows it."""
        return {"median": self.median, "percentile_95": self.percentile_95, "longest": self.longest}


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitStats:
    """What the rows of a split are like.

    Attributes:
        task: the task's name.
        family: its family's.
        kind: how it is answered.
        split: ``train``, ``validation`` or ``test``.
        rows: how many there are.
        fields: how many rows have text in each input field; the template's first, in its order.
        inputs: of the inputs as models read them, without the instruction.
        targets: of the targets as models read them.
        labels: how many rows have each label, in the task's order; empty where there are none.
        choices: the fewest and the most choices of a row; None where there are none.
    """

    task: str
    family: str
    kind: Kind
    split: str
    rows: int
    fields: Mapping[str, int]
    inputs: Lengths
    targets: Lengths
    labels: Mapping[str, int]
    choices: tuple[int, int] | None

    def to_json(self) -> dict[str, Json]:
        """Return it as ``udr tasks stats --json`` shows it."""
        return {
            "task": self.task,
            "family": self.family,
            "kind": self.kind.value,
            "split": self.split,
            "rows": self.rows,
            "fields": dict(self.fields),
            "input": self.inputs.to_json(),
            "target": self.targets.to_json(),
            "labels": {
                label: {"rows": number, "share": round(number / self.rows, 4)} for label, number in self.labels.items()
            },
            "choices": list(self.choices) if self.choices else None,
        }


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the rows of a collection are like.

    Attributes:
        unit: what lengths are counted in: ``words`` or ``tokens``.
        splits: by task, train before validation before test.
        errors: of the tasks and splits that cannot be read.
    """

    unit: str
    splits: tuple[SplitStats, ...]
    errors: tuple[DataError, ...]

    def to_json(self) -> dict[str, Json]:
        """Return it as ``udr tasks stats --json`` shows it."""
        return {"unit": self.unit, "splits": [split.to_json() for split in self.splits]}


def collect(tasks: Path, names: Sequence[str] | None = None, tokenizer: str | None = None) -> Statistics:
    """Read every row of a collection and return what they are like.

    Args:
        tasks: the folder of the task collection.
        names: the tasks to take; None takes all.
        tokenizer: counts lengths in its tokens, without those that it adds around a text; None counts words.

    Raises:
        UnknownTaskError: a task that was named is not in the collection.
        ModelError: the tokenizer cannot be loaded.
        ConfigError: there is no task at all.
    """
    opened = open_tasks(tasks, names)
    length = _words if tokenizer is None else _tokens(tokenizer)
    errors = list(opened.errors.values())
    found: list[SplitStats] = []
    for folder in opened.folders.values():
        for split in splits_of(folder):
            rows = read_split(folder, split)
            if isinstance(rows, DataError):
                errors.append(rows)
            else:
                found.append(_of(folder, split, rows, length))
    return Statistics("words" if tokenizer is None else "tokens", tuple(found), tuple(errors))


def _words(text: str) -> int:
    return len(text.split())


def _tokens(name: str) -> Length:
    counter = load_tokenizer(name)
    added = counter.count("")
    return lambda text: counter.count(text) - added


def _of(folder: TaskFolder, split: str, rows: Sequence[Row], length: Length) -> SplitStats:
    task = folder.task
    targets = Counter(row.target for row in rows)
    filled = Counter(name for row in rows for name, value in row.input.items() if value_text(value).strip())
    named = {name: None for name in task.fields if any(name in row.input for row in rows)}
    others = sorted({name for row in rows for name in row.input} - named.keys())
    num_choices = [len(row.choices) for row in rows]
    return SplitStats(
        task=task.name,
        family=task.family,
        kind=task.kind,
        split=split,
        rows=len(rows),
        fields={name: filled[name] for name in (*named, *others)},
        inputs=Lengths.of(length(input_text(task, row.input, row.choices)) for row in rows),
        targets=Lengths.of(length(task.verbalizer.get(row.target, row.target)) for row in rows),
        labels={label: targets[label] for label in task.labels},
        choices=(min(num_choices), max(num_choices)) if task.kind is Kind.MULTIPLE_CHOICE else None,
    )
