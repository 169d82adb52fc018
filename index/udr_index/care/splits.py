"""One split of a task, as the checks look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from udr.demonstrations import copy_key
from udr.tasks import Task
from udr.text import input_text, value_text
from udr.types import Row
from udr_index.care.findings import Finding, Kind


@dataclass(frozen=True)
class Split:
    """A task's rows of one split, in the file's order.

    Attributes:
        task: the task.
        name: ``train``, ``validation`` or ``test``.
        rows: at least one.
    """

    task: Task
    name: str
    rows: Sequence[Row]

    @cached_property
    def inputs(self) -> list[str]:
        """The rows' inputs as models read them, without the instruction."""
        return [input_text(self.task, row.input, row.choices) for row in self.rows]

    @cached_property
    def copies(self) -> Mapping[bytes, Sequence[int]]:
        """The positions of the rows that have one input, in letters and digits; by what stands for that input.

        Retrieval takes rows for copies by the same rule: none comes back for a query with that input. Rows whose
        fields are all blank are left out: they have no input.
        """
        copies: dict[bytes, list[int]] = {}
        for position, row in enumerate(self.rows):
            if len(self.blank_fields(row)) < len(self.task.fields):
                copies.setdefault(copy_key(self.task, row.input, row.choices), []).append(position)
        return copies

    def blank_fields(self, row: Row) -> list[str]:
        """Return the fields of the input template that have no text in this row."""
        return [name for name in self.task.fields if name in row.input and not value_text(row.input[name]).strip()]

    def ids(self, positions: Sequence[int]) -> tuple[str, ...]:
        """Return the ids of the rows at these positions."""
        return tuple(self.rows[position].id for position in positions)

    def part(self, number: int, verbs: str = "has/have") -> str:
        """Return how many of the rows: ``1 of 9 rows has``, ``2 of 9 rows have``."""
        one, several = verbs.split("/")
        return f"{number} of {len(self.rows)} rows {one if number == 1 else several}"

    def finding(
        self,
        kind: Kind,
        count: int,
        message: str,
        groups: Sequence[tuple[str, ...]] = (),
        against: str | None = None,
        labels: Sequence[str] = (),
    ) -> Finding:
        """Return a finding about this split."""
        return Finding(
            task=self.task.name,
            split=self.name,
            kind=kind,
            count=count,
            message=message,
            groups=tuple(groups),
            against=against,
            labels=tuple(labels),
        )
