"""Candidates: which demonstrations of a pool to have scored for each training query."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from udr.data import Kind, Pool, copy_text, formatting
from udr.models import Encoder
from udr.search import BM25Search, FaissSearch
from udr.types import Row

Candidates = Mapping[str, tuple[str, ...]]
"""Demonstration ids by query id; never the query itself or a copy of it."""

Neighbours = Callable[[Sequence[Row], int], list[list[int]]]
"""From queries and a count to positions in the pool, nearest first."""


def propose(
    others: "CandidatePool", queries: Sequence[Row], neighbours: Neighbours, num_candidates: int, random_share: float
) -> Candidates:
    """Return ``num_candidates`` demonstrations for each query: its neighbours, and a share drawn at random.

    Where there are too few neighbours (BM25 finds none for unknown words), more are drawn. The draw depends on
    seed, task and query id alone, so a later iteration draws the same ones and their scores are there already.

    Args:
        others: the pool that demonstrations come from.
        queries: rows of the same task, members of the pool or not.
        neighbours: the nearest rows of the pool.
        num_candidates: at most the pool's size less the query's copies.
        random_share: the share of candidates drawn at random, 0 to 1.
    """
    near = num_candidates - round(num_candidates * random_share)
    found = others.nearest(queries, neighbours, near)
    return {
        query.id: tuple(row.id for row in others.filled(query, rows, num_candidates))
        for query, rows in zip(queries, found, strict=True)
    }


class CandidatePool:
    """The rows of a pool that may be shown for a query: neither the query itself nor a copy of it.

    Args:
        pool: the pool.
        seed: of what is drawn.
    """

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool, self._seed = pool, seed
        self._keys = [copy_text(pool.task, row) for row in pool.rows]

    @property
    def fewest(self) -> int:
        """How many rows are left for the query that has the most copies."""
        return len(self.pool) - max(Counter(self._keys).values())

    def nearest(self, queries: Sequence[Row], neighbours: Neighbours, count: int) -> list[list[Row]]:
        """Return at most ``count`` neighbours of each query, nearest first."""
        # Copies of the query take places among its neighbours: so many more are asked for.
        asked = min(len(self.pool), count + len(self.pool) - self.fewest)
        return [
            [self.pool.rows[place] for place in places if self._keys[place] != own][:count]
            for own, places in zip(map(self._key, queries), neighbours(queries, asked), strict=True)
        ]

    def drawn(self, query: Row, purpose: str = "") -> list[Row]:
        """Return all of them, in an order that seed, task, query id and purpose alone decide."""
        digest = hashlib.sha256(f"{self._seed}:{self.pool.task.name}:{query.id}{purpose}".encode()).digest()
        places = random.Random(int.from_bytes(digest[:8])).sample(range(len(self.pool)), len(self.pool))
        own = self._key(query)
        return [self.pool.rows[place] for place in places if self._keys[place] != own]

    def context(self, query: Row, size: int) -> tuple[Row, ...]:
        """Return the demonstrations that the language model sees before each candidate of a query.

        The paper shows a candidate alone. A small language model tells little by it: after a single example its
        answer follows its habits more than the example, and some do the opposite of it. After two it compares the
        query with both, as it does when it answers with several. The context is drawn for each query, so that what
        one context favours is not learned; it is the same for all of a query's candidates, so that only they differ.
        A candidate that was drawn for the context as well is shown twice.

        Args:
            query: the query.
            size: how many; 0 for the paper's feedback.
        """
        return tuple(self.drawn(query, ":context")[:size]) if size else ()

    def filled(self, query: Row, rows: Sequence[Row], count: int) -> list[Row]:
        """Return ``rows`` and as many drawn ones as it takes to have ``count``."""
        if len(rows) >= count:
            return list(rows)
        return list({row.id: row for row in [*rows, *self.drawn(query)]}.values())[:count]

    def _key(self, query: Row) -> str:
        return copy_text(self.pool.task, query)


def bm25_neighbours(pool: Pool, *, targets: bool = False) -> Neighbours:
    """Return BM25 over a pool's inputs, or over its targets.

    Searching by target needs the query's gold: right for proposing training candidates of generation tasks
    (paper, appendix B), never for a retriever.
    """

    def of(row: Row) -> str:
        return row.target if targets else formatting.input_words(pool.task, row.input, row.choices)

    index = BM25Search([of(row) for row in pool.rows])

    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        return [[place for place, _ in hits] for hits in index.search([of(row) for row in queries], count)]

    return neighbours


def first_neighbours(pool: Pool) -> Neighbours:
    """Return the neighbours of the first iteration: BM25 over inputs, for generation over targets."""
    return bm25_neighbours(pool, targets=pool.task.kind is Kind.GENERATION)


def encoder_neighbours(pool: Pool, encoder: Encoder) -> Neighbours:
    """Return the nearest demonstrations by an encoder."""
    demonstrations = [formatting.encoder_demonstration(pool.task, row) for row in pool.rows]
    index = FaissSearch(encoder.encode_demonstrations(demonstrations))

    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        wordings = [formatting.row_query(pool.task, row) for row in queries]
        places, _ = index.search(encoder.encode_queries(wordings), count)
        return [[int(place) for place in row] for row in places]

    return neighbours
