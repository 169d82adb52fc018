"""Search: exact search compared with plain arithmetic, and every engine with exact search, ties included."""

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from udr.search import (
    ExactProposals,
    ExactSearch,
    FaissSearch,
    Positions,
    RankedProposals,
    Searcher,
    Vectors,
    float16_proposer,
    order,
)

Engine = Callable[[Vectors], Searcher]


def limited(vectors: Vectors) -> Searcher:
    """Return a search by an engine that proposes at most 64, as engines on GPUs have a limit."""
    return ExactProposals(ExactSearch(vectors).propose, vectors, limit=64)


ENGINES: list[Engine] = [ExactSearch, FaissSearch]


def unit(rows: int, dimension: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def expected_result(vectors: Vectors, query: Vectors, k: int) -> tuple[list[int], list[float]]:
    """Return the result of one query, in plain Python."""
    similar = [round(sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)), 5) for vector in vectors]
    best = sorted(range(len(vectors)), key=lambda position: (-similar[position], position))[:k]
    return best, [similar[position] for position in best]


def assert_equal(results: Sequence[Any], expected: Sequence[Any]) -> None:
    np.testing.assert_array_equal(results[0], expected[0])
    np.testing.assert_array_equal(results[1], expected[1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [1, 7, 60, 200])
def test_search_equals_plain_arithmetic(engine: Engine, k: int) -> None:
    vectors, queries = unit(60, 12, seed=0), unit(5, 12, seed=1)
    # Ties.
    vectors[20:30] = vectors[20]
    positions, similarities = engine(vectors).search(queries, k)
    assert positions.shape == similarities.shape == (5, min(k, 60))
    for query, *result in zip(queries, positions.tolist(), similarities.tolist(), strict=True):
        assert tuple(result) == expected_result(vectors, query, k)


@pytest.mark.parametrize("k", [1, 5, 64, 100, 299, 300])
@pytest.mark.parametrize("kind", ["random", "copies", "near copies", "all equal", "few values", "not unit"])
def test_engines_equal_exact_search_in_positions_values_and_order(kind: str, k: int) -> None:
    vectors, queries = unit(300, 16, seed=2), unit(9, 16, seed=3)
    generator = np.random.default_rng(4)
    if kind in ("copies", "near copies"):
        vectors = vectors[generator.integers(0, 8, 300)]
    if kind == "near copies":
        # An encoder's vectors of one text in different batches differ in the last bits.
        vectors = vectors + generator.normal(0, 1e-8, (300, 16)).astype(np.float32)
    if kind == "all equal":
        vectors = np.repeat(vectors[:1], 300, axis=0)
    if kind == "few values":
        vectors = generator.integers(-1, 2, (300, 16)).astype(np.float32)
    if kind == "not unit":
        vectors, queries = vectors * 40, queries * 3

    expected = ExactSearch(vectors).search(queries, k)

    assert expected[0].shape == (9, k)
    assert_equal(FaissSearch(vectors).search(queries, k), expected)
    assert_equal(limited(vectors).search(queries, k), expected)


def test_exact_search_replaces_an_engine_beyond_its_limit() -> None:
    vectors, queries = unit(100, 4, seed=0), unit(5, 4, seed=1)
    exact = ExactSearch(vectors)
    for searcher in (
        ExactProposals(exact.propose, vectors, limit=64, exact=exact),
        RankedProposals(exact.propose, vectors, exact, 4, 64),
    ):
        assert_equal(searcher.search(queries, 65), exact.search(queries, 65))
        assert len(searcher) == 100


@pytest.mark.parametrize("engine", [*ENGINES, limited])
@pytest.mark.parametrize("dimension", [384, 768])
@pytest.mark.parametrize("scale", [1, 100])
def test_near_copies_of_any_length_are_ordered_exactly(engine: Engine, dimension: int, scale: float) -> None:
    # The errors of float32 sums exceed the differences of these vectors, and grow with their length.
    vectors = (scale * (unit(1, dimension, seed=0) + 1e-7 * unit(200, dimension, seed=1))).astype(np.float32)
    query = (scale * (unit(1, dimension, seed=0) + 0.3 * unit(1, dimension, seed=2))).astype(np.float32)
    positions, similarities = engine(vectors).search(query, 8)
    assert (positions[0].tolist(), similarities[0].tolist()) == expected_result(vectors, query[0], 8)


def test_the_longest_vector_is_measured_once_unless_it_is_given() -> None:
    class Watched(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            reads.append(key)
            return super().__getitem__(key)  # type: ignore[call-overload]

    reads = list[object]()
    vectors, counts = unit(50, 8, seed=0), list[int]()
    for longest in (None, 1.0):
        searcher = ExactProposals(ExactSearch(vectors).propose, vectors.view(Watched), longest)
        for _ in range(2):
            reads.clear()
            searcher.search(vectors[:1], 3)
            counts.append(len(reads))

    assert counts == [2, 1, 1, 1]


def test_only_queries_with_ties_at_the_cut_request_more_proposals() -> None:
    vectors = unit(300, 16, seed=2)
    vectors[50:150] = vectors[50]
    requests = list[tuple[int, int]]()

    def propose(queries: Vectors, count: int) -> tuple[Vectors, Positions]:
        requests.append((len(queries), count))
        similarities, positions = ExactSearch(vectors).propose(queries, count)
        return similarities.astype(np.float32), positions

    queries = np.concatenate([unit(6, 16, seed=3), vectors[50:52]])
    results = ExactProposals(propose, vectors).search(queries, 5)

    assert requests == [(8, 21), (2, 42), (2, 84), (2, 168)]
    assert_equal(results, ExactSearch(vectors).search(queries, 5))


def test_many_proposals_are_ordered_in_little_memory() -> None:
    vectors = unit(20_000, 256, seed=0)
    positions = np.tile(np.arange(20_000), (3, 1))
    tracemalloc.start()
    try:
        results = order(vectors, vectors[:3], positions, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_equal(results, ([[0], [1], [2]], [[1], [1], [1]]))
    # Without blocks it takes 184 MB.
    assert peak < 25e6


def test_float16_search_equals_exact_search_of_the_same_numbers() -> None:
    vectors, queries = unit(300, 16, seed=2).astype(np.float16), unit(9, 16, seed=3)
    expected = ExactSearch(vectors.astype(np.float32)).search(queries, 90)
    for searcher in (FaissSearch(vectors, block=70), ExactProposals(float16_proposer(vectors, block=70), vectors)):
        assert_equal(searcher.search(queries, 90), expected)


def test_approximate_search_orders_proposals_exactly_and_completes_missing_ones() -> None:
    vectors, queries = unit(100, 8, seed=0), unit(3, 8, seed=1)

    def propose(queries: Vectors, count: int) -> tuple[Vectors, Positions]:
        assert count == 50
        # Every second vector, unordered; the last five for the first query, and too few for the last query.
        positions = np.tile(np.arange(98, -1, -2), (len(queries), 1))
        positions[0, 5:] = positions[-1, 4:] = -1
        return np.zeros(positions.shape, np.float32), positions

    positions, similarities = RankedProposals(propose, vectors, ExactSearch(vectors), 10).search(queries, 5)

    for number, proposed in enumerate((np.arange(90, 100, 2), np.arange(0, 100, 2), np.arange(100))):
        best, expected = expected_result(vectors[proposed], queries[number], 5)
        assert positions[number].tolist() == proposed[best].tolist() and similarities[number].tolist() == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_edge_cases_and_invalid_arguments(engine: Engine) -> None:
    searcher = engine(np.array([[-1, 0]], dtype=np.float32))
    assert len(searcher) == 1
    assert searcher.search(np.zeros((0, 2), np.float32), 3)[0].shape == (0, 1)
    # A similarity that rounds to zero has no sign.
    assert str(searcher.search(np.array([[1e-7, 0]], np.float32), 1)[1].tolist()) == "[[0.0]]"
    with pytest.raises(ValueError, match="k must be at least 1, found 0"):
        searcher.search(np.zeros((1, 2), np.float32), 0)
    with pytest.raises(ValueError, match=r"queries must be \[num_queries, 2\], found \[1, 3\]"):
        searcher.search(np.zeros((1, 3), np.float32), 1)
