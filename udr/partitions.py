"""The partitions of an opened index: one searcher for each task, and the rows that their positions stand for."""

from collections.abc import Mapping, Sequence

from udr.demonstrations import DemonstrationTable
from udr.encoder import Vectors
from udr.planning import Plan
from udr.search import Searcher
from udr.selection import Hit, without
from udr.tasks import Task
from udr.text import demonstration_text
from udr.types import RetrievedDemonstration, Row


class Partitions:
    """Searches partitions and reads rows. May be used by several threads.

    Args:
        tasks: the tasks, by name.
        searchers: one for each task, over its vectors.
        table: the rows.
    """

    def __init__(self, tasks: Mapping[str, Task], searchers: Mapping[str, Searcher], table: DemonstrationTable) -> None:
        self._tasks, self._searchers, self._table = tasks, searchers, table

    def search(self, plans: Sequence[Plan], vectors: Vectors) -> list[list[Hit]]:
        """Return hits for each plan, its k nearest among them, and none that must not come back.

        Args:
            plans: the requests.
            vectors: their queries, float32 [len(plans), dimension].
        """
        barred = [{task: self._barred(plan, task) for task in plan.copy_keys} for plan in plans]
        # Searches of one partition for equally many are one search; what is barred is fetched on top, and dropped.
        together: dict[tuple[str, int], list[int]] = {}
        for number, plan in enumerate(plans):
            for task, ids in barred[number].items():
                together.setdefault((task, plan.request.k + len(ids)), []).append(number)
        hits: list[list[Hit]] = [[] for _ in plans]
        for (task, count), numbers in together.items():
            positions, similarities = self._searchers[task].search(vectors[numbers], count)
            for number, found, values in zip(numbers, positions.tolist(), similarities.tolist(), strict=True):
                hits[number] += without(self._hits(task, found, values), barred[number][task])
        return hits

    def demonstrations(self, hits: Sequence[Hit]) -> tuple[RetrievedDemonstration, ...]:
        """Return the demonstrations that these hits stand for, ranked in the order given."""
        positions: dict[str, list[int]] = {}
        for hit in hits:
            positions.setdefault(hit.task, []).append(hit.position)
        rows = {task: iter(self._table.rows(task, at)) for task, at in positions.items()}
        return tuple(self._demonstration(hit, rank, next(rows[hit.task])) for rank, hit in enumerate(hits, start=1))

    def row(self, task: str, id: str) -> Row | None:
        """Return the row of that id, or None."""
        return self._table.row(task, id)

    def close(self) -> None:
        """Close the rows' file."""
        self._table.close()

    def _hits(self, task: str, positions: Sequence[int], similarities: Sequence[float]) -> list[Hit]:
        found = zip(positions, self._table.ids(task, positions), similarities, strict=True)
        return [Hit(task, position, id, similarity) for position, id, similarity in found]

    def _barred(self, plan: Plan, task: str) -> set[str]:
        return self._table.copies(task, plan.copy_keys[task]).union(plan.request.exclude)

    def _demonstration(self, hit: Hit, rank: int, row: Row) -> RetrievedDemonstration:
        return RetrievedDemonstration(
            id=row.id,
            task=hit.task,
            similarity=hit.similarity,
            rank=rank,
            input=row.input,
            target=row.target,
            text=demonstration_text(self._tasks[hit.task], row),
            metadata=row.metadata,
        )
