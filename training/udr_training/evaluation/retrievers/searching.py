"""A retriever that searches, with the options in its name."""

from collections.abc import Sequence
from itertools import product, zip_longest

from udr.data import Pool, Task, Wording, formatting, query_fields
from udr.errors import ConfigError, RequestError
from udr.prompts import Order, arranged
from udr.retrieval import Retrieval, RetrievalRequest, RetrievedDemonstration, checked_text, make_plan
from udr.types import Json, Row
from udr_training.candidates import CandidatePool
from udr_training.evaluation.retrievers.compared import Shown
from udr_training.evaluation.retrievers.options import RetrieverName
from udr_training.evaluation.retrievers.sources import LocalSource, Searched, Source

_BOUNDS = ("filter", "min_similarity", "max_similarity", "max_copy", "distinct")


class SearchRetriever:
    """A retriever in an evaluation that searches, with the options of its name.

    Args:
        parsed: the name with its options.
        source: where it searches.
        seed: of what is drawn if too few rows share a word with a query, and of shuffled prompts.
    """

    def __init__(self, parsed: RetrieverName, source: Source, seed: int) -> None:
        self.name, self._parsed, self._source, self._seed = parsed.name, parsed, source, seed

    @property
    def identity(self) -> dict[str, Json]:
        """See ``ComparedRetriever``."""
        identity, options = self._source.identity, dict(self._parsed.options)
        if options.get("mode", "dense") == ("bm25" if identity["kind"] == "bm25" else "dense"):
            options.pop("mode", None)
        if self._parsed.order is not Order.NEAREST_LAST:
            options["order"] = self._parsed.order.value
        return {**identity, **({"options": options} if options else {})}

    @property
    def trained(self) -> bool:
        """See ``ComparedRetriever``."""
        return self._parsed.options.get("mode") != "bm25" and self._source.trained

    @property
    def fills(self) -> bool:
        """Whether it draws by seed: for unknown words, BM25 finds too few; a request with bounds asks for fewer."""
        options = self._parsed.options
        return options.get("mode") == "bm25" and not any(bound in options for bound in _BOUNDS)

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """See ``ComparedRetriever``."""
        for query in queries:
            check_query(pool.task, query)

    def demonstrations(self, pool: Pool, queries: Sequence[Row], *counts: int) -> list[Shown]:
        """See ``ComparedRetriever``."""
        task, drawn = pool.task, CandidatePool(pool, self._seed)
        asked = list(product(counts, queries))
        with self._source.opened(pool) as retriever:
            size = retriever.sizes[task.name]
            requests = [self._request(task, query, min(count, size)) for count, query in asked]
            return [
                self._shown(retriever, drawn, query, retrieval, count)
                for (count, query), retrieval in zip(asked, retriever.retrieve_batch(requests), strict=True)
            ]

    def _request(self, task: Task, query: Row, k: int) -> RetrievalRequest:
        return self._parsed.request(query_fields(task, query), task.name, k)

    def _shown(
        self, retriever: Searched, candidates: CandidatePool, query: Row, retrieval: Retrieval, count: int
    ) -> Shown:
        task = candidates.pool.task
        found = [retriever.demonstration(item.task, item.id) for item in retrieval]
        rows = candidates.filled(query, found, count) if self.fills else found
        items = [item or _unranked(task, row) for item, row in zip_longest(retrieval, rows)]
        text = formatting.query_prompt(task, query.input, query.choices)
        order = self._parsed.order
        return Shown(rows, arranged(order, items, text, self._seed), len(rows) - len(found), order, self._seed)


class LocalRetriever(SearchRetriever):
    """A retriever in an evaluation that searches on this machine.

    Args:
        parsed: the name with its options.
        source: where it searches.
        seed: of what is drawn if too few rows share a word with a query, and of shuffled prompts.
    """

    def __init__(self, parsed: RetrieverName, source: LocalSource, seed: int) -> None:
        super().__init__(parsed, source, seed)
        self._checked = source

    def check(self, pool: Pool, queries: Sequence[Row], count: int) -> None:
        """See ``ComparedRetriever``."""
        super().check(pool, queries, count)
        manifest, task = self._checked.check(pool), pool.task
        k = min(count, manifest.partitions[task.name].count)
        for query in queries:
            try:
                make_plan(manifest, self._request(task, query, k))
            except RequestError as error:
                raise ConfigError(f"retriever {self.name!r}, {task.name}, row {query.id!r}: {error}") from error


def check_query(task: Task, query: Row) -> None:
    """Raise a ``ConfigError`` if no search takes a query."""
    try:
        checked_text(Wording.of_task(task), query_fields(task, query))
    except RequestError as error:
        raise ConfigError(f"task {task.name!r}, row {query.id!r}: {error}; shorten the row or remove it") from error


def _unranked(task: Task, row: Row) -> RetrievedDemonstration:
    return RetrievedDemonstration(
        id=row.id, task=task.name, similarity=0.0, rank=0, input=row.input, target=row.target, text=""
    )
