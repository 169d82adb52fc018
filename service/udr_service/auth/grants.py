"""What a key grants: the pools that it is for, and how much of the service it may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pools:
    """The tasks that a key is for; if it names neither tasks nor families, all."""

    tasks: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()

    @property
    def all(self) -> bool:
        """Whether the key is for all tasks."""
        return not self.tasks and not self.families

    def include(self, task: str, family: str | None) -> bool:
        """Return whether a task belongs to them; its family is None if there is no such task."""
        return self.all or task in self.tasks or family in self.families

    def __str__(self) -> str:
        kinds = ("tasks", self.tasks), ("families", self.families)
        return " and ".join(f"the {kind} {', '.join(sorted(names))}" for kind, names in kinds if names) or "all tasks"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one client may take; 0 is no limit.

    Attributes:
        requests_per_second: requests; a second's worth may come at once.
        items_per_second: queries and texts to embed, of which a batch has several.
        concurrent_requests: requests that are answered at the same time.
        queue_share: the share of the queue that its queries may fill, above 0.
    """

    requests_per_second: float = 0.0
    items_per_second: float = 0.0
    concurrent_requests: int = 0
    queue_share: float = 1.0
