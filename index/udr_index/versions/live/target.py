"""Where the commands for rows read and write: an index directory in this process, or a service."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from udr.data import Filter, Task
from udr.errors import ConfigError, UnknownTaskError
from udr.retrieval import Page, Retriever, deletion, page, unknown
from udr.store import IndexVersion, open_version
from udr.store.live import DURABILITIES, Change, Durability, Outcome
from udr.types import Row
from udr_index.versions.live.rows import open_rows

if TYPE_CHECKING:
    from udr.client import Client


class Directory:
    """The rows of an index directory, by the methods that a ``Client`` has; only ``put`` loads an encoder.

    Args:
        root: the index directory.
        durability: when a put is done.
        allow_hub: load the encoder from the hub if the index names it.
    """

    def __init__(self, root: Path, durability: Durability = "disk", *, allow_hub: bool = False) -> None:
        self._root, self._durability, self._allow_hub = root, durability, allow_hub

    @cached_property
    def _version(self) -> IndexVersion:
        return open_version(self._root)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks of the index, by name."""
        return {name: part.task for name, part in self._version.manifest.partitions.items()}

    def put(self, task: str, rows: Sequence[Row], *, if_match: str | None = None) -> Outcome:
        """See ``Client.put``."""
        known(task, self.tasks)
        with Retriever.of_version(
            self._version, verify=False, allow_hub=self._allow_hub, durability=self._durability
        ) as retriever:
            return retriever.put(task, rows, if_match=if_match)

    def demonstration(self, task: str, id: str) -> Row:
        """See ``Client.demonstration``."""
        known(task, self.tasks)
        with open_rows(self._root, self._version) as pool:
            if (row := pool.view().row(task, id)) is None:
                raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
            return row

    def demonstrations(
        self, task: str, *, after: str | None = None, limit: int = 100, filter: str | None = None
    ) -> Page:
        """See ``Client.demonstrations``."""
        known(task, self.tasks)
        with open_rows(self._root, self._version) as pool:
            return page(pool.view(), task, after, limit, None if filter is None else Filter.of(filter))

    def delete(
        self, task: str, ids: Sequence[str] | None = None, *, filter: str | None = None, if_match: str | None = None
    ) -> Outcome:
        """See ``Client.delete``."""
        known(task, self.tasks)
        with open_rows(self._root, self._version) as pool:
            return pool.submit(deletion(Change(task, if_match=if_match), ids, filter)).result()


def known(task: str, tasks: Mapping[str, Task]) -> Task:
    """Return a task by its name; raise an ``UnknownTaskError`` if there is none."""
    if task not in tasks:
        raise unknown("task", task, tasks)
    return tasks[task]


@contextmanager
def opened(
    index: str | None, url: str | None, *, durability: str | None = None, allow_hub: bool = False
) -> "Iterator[Client | Directory]":
    """Open an index directory, or connect to a service.

    Raises:
        ConfigError: an option is for a directory only, or the durability is none.
    """
    if url is not None:
        for name, value in (("durability", durability), ("allow-hub", allow_hub or None)):
            if value is not None:
                raise ConfigError(f"omit --{name} with --url, since the service has its own")
        from udr.client import Client

        with Client(url) as client:
            yield client
        return
    assert index is not None, "without a URL there is a directory"
    yield Directory(Path(index), durability_of(durability), allow_hub=allow_hub)


def durability_of(option: str | None) -> Durability:
    """Return the durability that ``--durability`` names, ``disk`` without it; raise a ``ConfigError`` if it is none."""
    for durability in DURABILITIES:
        if durability == (option or "disk"):
            return durability
    raise ConfigError(f"--durability must be {' or '.join(DURABILITIES)}; found {option!r}")
