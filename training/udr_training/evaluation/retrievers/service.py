"""A running udr service in an evaluation, by its URL."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from udr.client import Client
from udr.data import Pool
from udr.errors import ConfigError, ServiceError, listed
from udr.retrieval import Retrieval, RetrievalRequest
from udr.types import Json, Row
from udr_training.evaluation.retrievers.options import RetrieverName
from udr_training.evaluation.retrievers.searching import SearchRetriever
from udr_training.evaluation.retrievers.sources import Searched

Connect = Callable[[str], Client]
"""Opens a client of a service's URL."""

# Evaluations are patient; the service drops what it cannot answer in this time.
_TIMEOUT_SECONDS = 60.0


def _connect(url: str) -> Client:
    return Client(url, timeout=_TIMEOUT_SECONDS, retries=5)


class ServiceSource:
    """A service, with its own demonstrations, encoder and settings; the API key is read from ``UDR_API_KEY``.

    Args:
        url: the service's.
        connect: opens a client.

    Raises:
        ServiceError: there is no service at the URL.
    """

    def __init__(self, url: str, connect: Connect = _connect) -> None:
        self._url, self._connect = url, connect
        with connect(url) as client:
            self._info, self._tasks = client.info(), client.tasks

    @property
    def identity(self) -> dict[str, Json]:
        """See ``Source``."""
        # An older service does not tell the others.
        told = {key: self._info.get(key) for key in ("engine", "search_digest", "overlay_position")}
        return {"kind": "service", "url": self._url, "version": self._info["index_version"], **told}

    @property
    def trained(self) -> bool:
        """See ``Source``; a service does not tell."""
        return False

    def check_task(self, pool: Pool) -> None:
        """Raise a ``ConfigError`` if the service does not serve the pool's task as it is."""
        task = pool.task
        if task.name not in self._tasks:
            names = listed(sorted(self._tasks), len(self._tasks))
            raise ConfigError(f"{self._url}: serves no task {task.name!r}; it serves {names}")
        if self._tasks[task.name] != task:
            raise ConfigError(f"{self._url}: formats task {task.name!r} by another task.toml; build its index again")

    @contextmanager
    def opened(self, pool: Pool) -> Iterator[Searched]:
        """See ``Source``."""
        with self._connect(self._url) as client:
            yield _Service(self._url, client, {pool.task.name: self._size(pool.task.name)})

    def _size(self, name: str) -> int:
        tasks = self._info["tasks"]
        assert isinstance(tasks, Sequence), "the client has checked the answer"
        sizes = {str(task["name"]): int(str(task["demonstrations"])) for task in tasks if isinstance(task, Mapping)}
        return sizes[name]


class _Service:
    """A service as a retriever."""

    def __init__(self, url: str, client: Client, sizes: Mapping[str, int]) -> None:
        self._url, self._client, self.sizes = url, client, sizes
        self._rows: dict[tuple[str, str], Row] = {}

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        retrievals = self._client.retrieve_batch(requests)
        if missing := sorted({name for retrieval in retrievals for name in retrieval.missing_shards}):
            raise ServiceError(
                f"{self._url}: answers without {', '.join(missing)}, so nothing can be said of it; wait until "
                "/readyz names no shard, and evaluate again"
            )
        return retrievals

    def demonstration(self, task: str, id: str) -> Row:
        if (task, id) not in self._rows:
            # A retrieval lacks the references of a row, and an older service's its choices.
            self._rows[task, id] = self._client.demonstration(task, id)
        return self._rows[task, id]


class ServiceRetriever(SearchRetriever):
    """A retriever in an evaluation that is a service, with the options of its name; the service checks them.

    Args:
        parsed: the URL with its options.
        seed: of what is drawn if too few rows share a word with a query, and of shuffled prompts.
        connect: opens a client.
    """

    def __init__(self, parsed: RetrieverName, seed: int, connect: Connect = _connect) -> None:
        self._service = ServiceSource(parsed.source, connect)
        super().__init__(parsed, self._service, seed)

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """See ``ComparedRetriever``."""
        super().check(pool, queries, count)
        self._service.check_task(pool)
