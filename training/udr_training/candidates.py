"""Candidates: which demonstrations of a pool to have scored for each training query."""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence

from udr import text
from udr.bm25 import BM25Search
from udr.encoder import Encoder
from udr.faiss_search import FaissSearch
from udr.pool import Pool
from udr.tasks import Kind
from udr.types import Row

Candidates = Mapping[str, tuple[str, ...]]
"""Demonstration ids by query id; never the query itself or a copy of it."""

Neighbours = Callable[[Sequence[Row], int], list[list[int]]]
"""From queries and a count to positions in the pool, nearest first."""


def propose(
    pool: Pool, queries: Sequence[Row], neighbours: Neighbours, num_candidates: int, random_share: float, seed: int
) -> Candidates:
    """Return ``num_candidates`` demonstrations for each query: its neighbours, and a share drawn at random.

    Where there are too few neighbours (BM25 finds none for unknown words), more are drawn. The draw depends on
    seed, task and query id alone, so a later iteration draws the same ones and their scores are there already.

    Args:
        pool: where demonstrations come from.
        queries: rows of the same task, members of the pool or not.
        neighbours: the nearest rows of the pool.
        num_candidates: at most the pool's size less the query's copies.
        random_share: the share of candidates drawn at random, 0 to 1.
        seed: of the draw.
    """
    near = num_candidates - round(num_candidates * random_share)
    keys = [_copy_key(pool, row) for row in pool.rows]
    # Copies of the query take places among its neighbours; a few more are asked for, then all.
    found = neighbours(queries, min(len(pool), near + 8))
    return {
        query.id: _candidates_of(pool, keys, query, positions, near, num_candidates, seed)
        for query, positions in zip(queries, found, strict=True)
    }


def _candidates_of(
    pool: Pool, keys: Sequence[str], query: Row, neighbours: Sequence[int], near: int, total: int, seed: int
) -> tuple[str, ...]:
    own = _copy_key(pool, query)
    chosen = [place for place in neighbours if keys[place] != own and pool.rows[place].id != query.id][:near]
    taken = set(chosen)
    digest = hashlib.sha256(f"{seed}:{pool.task.name}:{query.id}".encode()).digest()
    shuffled = random.Random(int.from_bytes(digest[:8])).sample(range(len(pool)), len(pool))
    for place in shuffled:
        if len(chosen) >= total:
            break
        if place not in taken and keys[place] != own and pool.rows[place].id != query.id:
            chosen.append(place)
    return tuple(pool.rows[place].id for place in chosen)


def _copy_key(pool: Pool, row: Row) -> str:
    return text.normalised(text.input_text(pool.task, row.input, row.choices))


def bm25_neighbours(pool: Pool, *, targets: bool = False) -> Neighbours:
    """Return BM25 over a pool's inputs, or over its targets.

    Searching by target needs the query's gold: right for proposing training candidates of generation tasks
    (paper, appendix B), never for a retriever.
    """

    def of(row: Row) -> str:
        return row.target if targets else text.input_words(pool.task, row.input, row.choices)

    index = BM25Search([of(row) for row in pool.rows])

    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        return [[place for place, _ in hits] for hits in index.search([of(row) for row in queries], count)]

    return neighbours


def first_neighbours(pool: Pool) -> Neighbours:
    """Return the neighbours of the first iteration: BM25 over inputs, for generation over targets."""
    return bm25_neighbours(pool, targets=pool.task.kind is Kind.GENERATION)


def encoder_neighbours(pool: Pool, encoder: Encoder) -> Neighbours:
    """Return the nearest demonstrations by an encoder."""
    demonstrations = [text.encoder_demonstration(pool.task, row) for row in pool.rows]
    index = FaissSearch(encoder.encode_demonstrations(demonstrations))

    def neighbours(queries: Sequence[Row], count: int) -> list[list[int]]:
        wordings = [
            text.encoder_query(pool.task.instruction, text.input_text(pool.task, row.input, row.choices))
            for row in queries
        ]
        places, _ = index.search(encoder.encode_queries(wordings), count)
        return [[int(place) for place in row] for row in places]

    return neighbours
