"""Candidates: the demonstrations to score for each training query."""

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from udr.data import Kind, Pool, copy_text, formatting, sample_by
from udr.models import Encoder, LongTexts, SentenceEncoder, encode_by_length
from udr.search import BM25Search, FaissSearch
from udr.types import Row

_LOG = logging.getLogger(__name__)

Candidates = Mapping[str, tuple[str, ...]]
"""Demonstration ids by query id; never the query itself or a copy of it."""

Neighbours = Callable[[Sequence[Row], int], list[list[int]]]
"""Returns positions in the pool for queries and a count, nearest first."""


def propose(
    candidate_pool: "CandidatePool",
    queries: Sequence[Row],
    neighbours: Neighbours,
    num_candidates: int,
    random_share: float,
) -> Candidates:
    """Return ``num_candidates`` demonstrations per query: its neighbours, and a random share.

    If there are too few neighbours (BM25 finds none for unknown words), more are drawn. The draw depends only on seed,
    task and query id, so later iterations draw the same demonstrations, which are scored already.

    Args:
        candidate_pool: the demonstrations.
        queries: rows of the same task, in the pool or not.
        neighbours: the search for the nearest rows.
        num_candidates: if the pool is smaller, all of it.
        random_share: the share of candidates drawn at random, 0 to 1.
    """
    num_nearest = num_candidates - round(num_candidates * random_share)
    nearest = candidate_pool.nearest(queries, neighbours, num_nearest)
    _warn_of_chance(candidate_pool, nearest, num_nearest)
    return {
        query.id: tuple(row.id for row in candidate_pool.filled(query, rows, num_candidates))
        for query, rows in zip(queries, nearest, strict=True)
    }


def _warn_of_chance(candidate_pool: "CandidatePool", nearest: Sequence[Sequence[Row]], count: int) -> None:
    """Warn if a search found too few neighbours."""
    wanted = min(count, candidate_pool.fewest) * len(nearest)
    if (missing := wanted - sum(map(len, nearest))) > 0:
        _LOG.warning(
            "task %s: the search finds too few neighbours, so %s of them are drawn at random",
            candidate_pool.pool.task.name,
            f"{missing / wanted:.1%}",
        )


class CandidatePool:
    """The rows of a pool that can be shown for a query: not the query itself or a copy of it; random draws by seed.

    Args:
        pool: the rows.
        seed: of all draws.
        shared: this many rows of the pool are drawn before all others, for every query in an order of its own; 0
            prefers none.
    """

    def __init__(self, pool: Pool, seed: int, shared: int = 0) -> None:
        self.pool, self._seed = pool, seed
        # By another key than the queries, which are sampled by their ids.
        common = sample_by(pool.rows, shared, seed, lambda row: f"{row.id}:shared") if shared else ()
        self._keys = [copy_text(pool.task, row) for row in pool.rows]
        self._positions = {row.id: position for position, row in enumerate(pool.rows)}
        self._shared = [self._positions[row.id] for row in common]

    @property
    def fewest(self) -> int:
        """The number of rows for the query with the most copies."""
        return len(self.pool) - max(Counter(self._keys).values())

    def nearest(self, queries: Sequence[Row], neighbours: Neighbours, count: int) -> list[list[Row]]:
        """Return at most ``count`` neighbours of each query, nearest first."""
        # Request as many more as a query can have copies among its neighbours.
        requested = min(len(self.pool), count + len(self.pool) - self.fewest)
        nearest = neighbours(queries, requested)
        return [
            list(islice(self._others(query, positions), count))
            for query, positions in zip(queries, nearest, strict=True)
        ]

    def showable(self, query: Row, ids: Iterable[str]) -> list[str]:
        """Return those of some ids that are of rows for a query."""
        return [row.id for row in self._others(query, [self._positions[id] for id in ids if id in self._positions])]

    def drawn(self, query: Row, purpose: str = "") -> Iterator[Row]:
        """Yield all rows for a query, in an order that depends only on seed, task, query id and purpose."""
        digest = hashlib.sha256(f"{self._seed}:{self.pool.task.name}:{query.id}{purpose}".encode()).digest()
        draw, shared = random.Random(int.from_bytes(digest[:8])), set(self._shared)
        first = (self._shared[place] for place in _drawn(draw, len(shared)))
        rest = (position for position in _drawn(draw, len(self.pool)) if position not in shared)
        yield from self._others(query, chain(first, rest))

    def context(self, query: Row, size: int) -> tuple[Row, ...]:
        """Return the demonstrations that the language model sees before each candidate of a query.

        The paper shows a candidate alone. After a single example, a small language model's answer follows its habits
        more than the example; after two, it compares the query with both. The context is drawn per query, so that no
        single context is learned, and is the same for all of a query's candidates, so that only they differ. A
        candidate that is also in the context is shown twice.
        """
        return tuple(islice(self.drawn(query, ":context"), size))

    def filled(self, query: Row, rows: Sequence[Row], count: int) -> list[Row]:
        """Return ``rows``, filled up to ``count`` with drawn ones."""
        known = {row.id for row in rows}
        more = (row for row in self.drawn(query) if row.id not in known)
        return [*rows, *islice(more, max(0, count - len(rows)))]

    def _others(self, query: Row, positions: Iterable[int]) -> Iterator[Row]:
        key = copy_text(self.pool.task, query)
        return (self.pool.rows[position] for position in positions if self._keys[position] != key)


def _drawn(draw: random.Random, count: int) -> Iterator[int]:
    """Yield the positions of ``draw.sample(range(count), count)`` one by one, without the rest."""
    # What a list of all positions would hold, where it differs.
    moved = dict[int, int]()
    for last in range(count - 1, -1, -1):
        position = draw.randrange(last + 1)
        yield moved.get(position, position)
        moved[position] = moved.pop(last, last)


def bm25_neighbours(pool: Pool, *, targets: bool = False) -> Neighbours:
    """Return BM25 search over a pool's inputs, or over its targets.

    Search by target reads the query's gold: it is for training candidates of generation tasks (paper, appendix B),
    never for a retriever.
    """

    def text(row: Row) -> str:
        return row.target if targets else formatting.input_words(pool.task, row.input, row.choices)

    index = BM25Search(list(map(text, pool.rows)))
    return lambda queries, count: [
        [position for position, _ in hits] for hits in index.search(list(map(text, queries)), count)
    ]


def first_neighbours(pool: Pool) -> Neighbours:
    """Return the search of the first iteration: BM25 over inputs, or over targets for generation."""
    return bm25_neighbours(pool, targets=pool.task.kind is Kind.GENERATION)


def encoder_neighbours(pool: Pool, encoder: Encoder) -> Neighbours:
    """Return an encoder's search over a pool; the encoder's workers, if it has some, encode pool and queries."""
    demonstrations = [formatting.encoder_demonstration(pool.task, row) for row in pool.rows]
    warn_of_long(pool.task.name, encoder, demonstrations)
    name = pool.task.name
    index = FaissSearch(encode_by_length(encoder, demonstrations, name))

    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        texts = [formatting.row_query(pool.task, row) for row in queries]
        positions, _ = index.search(encode_by_length(encoder, texts, name, role="query"), count)
        return [[int(position) for position in row] for row in positions]

    return neighbours


def warn_of_long(task: str, encoder: Encoder, demonstrations: Sequence[str]) -> None:
    """Warn if an encoder cuts some of a task's demonstrations."""
    long = LongTexts(encoder.window if isinstance(encoder, SentenceEncoder) else None)
    long.add(demonstrations)
    if notice := long.notice():
        _LOG.warning("task %s, encoder %s: %s", task, encoder.name, notice)
