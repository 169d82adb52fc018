"""Search: exact search against arithmetic, and every engine against exact search, ties included."""

import tracemalloc
from collections.abc import Callable

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
    in_halves,
    order,
)


def limited(vectors: Vectors) -> Searcher:
    """An engine that proposes at most 64, as a GPU has its limit."""
    return ExactProposals(ExactSearch(vectors)._propose, vectors, most=64)


ENGINES: list[Callable[[Vectors], Searcher]] = [ExactSearch, FaissSearch]


def unit(rows: int, dimension: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def by_hand(vectors: Vectors, query: Vectors, k: int) -> tuple[list[int], list[float]]:
    """The answer for one query, in plain Python."""
    similar = [round(sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)), 5) for vector in vectors]
    best = sorted(range(len(vectors)), key=lambda position: (-similar[position], position))[:k]
    return best, [similar[position] for position in best]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [1, 7, 60, 200])
def test_search_equals_plain_arithmetic(engine: Callable[[Vectors], Searcher], k: int) -> None:
    vectors, queries = unit(60, 12, seed=0), unit(5, 12, seed=1)

    positions, similarities = engine(vectors).search(queries, k)

    assert positions.shape == similarities.shape == (5, min(k, 60))
    for query, found, values in zip(queries, positions, similarities, strict=True):
        assert (found.tolist(), values.tolist()) == by_hand(vectors, query, k)


@pytest.mark.parametrize("k", [1, 5, 64, 100, 299, 300])
@pytest.mark.parametrize("kind", ["random", "copies", "near copies", "all equal", "few values", "not unit"])
def test_faiss_equals_exact_search_in_positions_values_and_order(kind: str, k: int) -> None:
    vectors, queries = unit(300, 16, seed=2), unit(9, 16, seed=3)
    generator = np.random.default_rng(4)
    if kind == "copies":
        vectors = vectors[generator.integers(0, 8, 300)]
    if kind == "near copies":
        # As an encoder gives for one text in different batches: equal but for the last bits.
        vectors = vectors[generator.integers(0, 8, 300)] + generator.normal(0, 1e-8, (300, 16)).astype(np.float32)
    if kind == "all equal":
        vectors = np.repeat(vectors[:1], 300, axis=0)
    if kind == "few values":
        vectors = generator.integers(-1, 2, (300, 16)).astype(np.float32)
    if kind == "not unit":
        vectors, queries = vectors * 40, queries * 3

    exact, faiss = ExactSearch(vectors).search(queries, k), FaissSearch(vectors).search(queries, k)

    assert np.array_equal(exact[0], faiss[0])
    assert np.array_equal(exact[1], faiss[1])
    assert exact[0].shape == (9, k)


@pytest.mark.parametrize("k", [1, 5, 47, 60, 64])
@pytest.mark.parametrize("copies", [1, 8, 200])
def test_an_engine_with_a_limit_is_exact_up_to_it(k: int, copies: int) -> None:
    vectors, queries = np.repeat(unit(300 // copies + 1, 16, seed=2), copies, axis=0)[:300], unit(9, 16, seed=3)

    exact, found = ExactSearch(vectors).search(queries, k), limited(vectors).search(queries, k)

    assert np.array_equal(exact[0], found[0])
    assert np.array_equal(exact[1], found[1])


def test_more_than_an_engine_can_propose_is_answered_by_exact_search() -> None:
    vectors, queries = unit(100, 4, seed=0), unit(5, 4, seed=1)
    exact, propose = ExactSearch(vectors), ExactSearch(vectors)._propose
    for searcher in (
        ExactProposals(propose, vectors, most=64, exact=exact),
        ExactProposals(propose, vectors, most=64),
        RankedProposals(propose, vectors, exact, 4, 64),
    ):
        found, expected = searcher.search(queries, 65), exact.search(queries, 65)
        assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
        assert len(searcher) == 100


@pytest.mark.parametrize("engine", [*ENGINES, limited])
@pytest.mark.parametrize("dimension", [384, 768])
@pytest.mark.parametrize("scale", [1, 10, 100])
def test_near_copies_of_any_length_come_in_the_order_of_arithmetic(
    engine: Callable[[Vectors], Searcher], dimension: int, scale: float
) -> None:
    # Sums of float32 are off by more than such vectors differ, and the more so the longer they are.
    vectors = (scale * (unit(1, dimension, seed=0) + 1e-7 * unit(400, dimension, seed=1))).astype(np.float32)
    query = (scale * (unit(1, dimension, seed=0) + 0.3 * unit(1, dimension, seed=2))).astype(np.float32)

    positions, similarities = engine(vectors).search(query, 8)

    assert (positions[0].tolist(), similarities[0].tolist()) == by_hand(vectors, query[0], 8)


def test_the_longest_vector_is_measured_once_and_not_where_it_is_known() -> None:
    class Watched(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            read.append(key)
            return super().__getitem__(key)  # type: ignore[call-overload]

    read = list[object]()
    vectors, counts = unit(50, 8, seed=0), list[int]()
    for longest in (None, 1.0):
        searcher = ExactProposals(ExactSearch(vectors)._propose, vectors.view(Watched), longest)
        for _ in range(2):
            read.clear()
            searcher.search(vectors[:1], 3)
            counts.append(len(read))

    assert counts == [2, 1, 1, 1]


def test_only_queries_with_ties_across_the_cut_are_asked_again() -> None:
    vectors = unit(300, 16, seed=2)
    vectors[50:150] = vectors[50]
    asked = list[tuple[int, int]]()

    def propose(queries: Vectors, count: int) -> tuple[Vectors, Positions]:
        asked.append((len(queries), count))
        similarities, positions = ExactSearch(vectors)._propose(queries, count)
        return similarities.astype(np.float32), positions

    queries = np.concatenate([unit(6, 16, seed=3), vectors[50:52]])
    found, expected = ExactProposals(propose, vectors).search(queries, 5), ExactSearch(vectors).search(queries, 5)

    assert asked == [(8, 21), (2, 42), (2, 84), (2, 168)]
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


def test_many_proposals_are_ranked_in_little_memory() -> None:
    vectors = unit(20_000, 256, seed=0)
    positions = np.tile(np.arange(20_000), (3, 1))
    tracemalloc.start()
    try:
        found, similarities = order(vectors, vectors[:3], positions, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found[:, 0].tolist() == [0, 1, 2] and similarities[:, 0].tolist() == [1.0, 1.0, 1.0]
    # At once it would take 184 MB.
    assert peak < 25e6


def test_half_precision_is_searched_as_the_numbers_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.search.faiss_cpu.BLOCK", 70)
    halves, queries = unit(300, 16, seed=2).astype(np.float16), unit(9, 16, seed=3)

    exact = ExactSearch(halves.astype(np.float32)).search(queries, 90)

    for searcher in (FaissSearch(halves), ExactProposals(in_halves(halves), halves)):
        found = searcher.search(queries, 90)
        assert np.array_equal(exact[0], found[0])
        assert np.array_equal(exact[1], found[1])


def test_what_an_engine_proposes_is_ranked_exactly_and_what_it_lacks_is_looked_for() -> None:
    vectors, queries = unit(100, 8, seed=0), unit(3, 8, seed=1)

    def propose(queries: Vectors, count: int) -> tuple[Vectors, Positions]:
        asked.append(count)
        # Every second vector, in no order; and nothing at all for the last query.
        positions = np.tile(np.arange(0, 100, 2)[:count][::-1], (len(queries), 1))
        positions[-1, 4:] = -1
        positions[0, 5:] = -1
        return np.zeros(positions.shape, np.float32), positions

    asked = list[int]()
    positions, similarities = RankedProposals(propose, vectors, ExactSearch(vectors), 10).search(queries, 5)

    assert asked == [50]
    for number, among in ((0, vectors[98:88:-2]), (1, vectors[::2])):
        best, values = by_hand(among, queries[number], 5)
        places = [98 - 2 * at if number == 0 else 2 * at for at in best]
        assert (positions[number].tolist(), similarities[number].tolist()) == (places, values)
    assert (positions[2].tolist(), similarities[2].tolist()) == by_hand(vectors, queries[2], 5)


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_come_in_the_order_of_their_positions(engine: Callable[[Vectors], Searcher]) -> None:
    vectors = np.full((500, 4), 0.5, dtype=np.float32)
    vectors[137] = 0

    positions, similarities = engine(vectors).search(vectors[:1], 300)

    assert positions[0].tolist() == [position for position in range(301) if position != 137]
    assert set(similarities[0].tolist()) == {1.0}


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_do_not_depend_on_the_batch(engine: Callable[[Vectors], Searcher]) -> None:
    searcher, queries = engine(unit(200, 16, seed=5)), unit(20, 16, seed=6)
    positions, similarities = searcher.search(queries, 10)

    for number, query in enumerate(queries):
        alone = searcher.search(query[None], 10)
        assert np.array_equal(alone[0][0], positions[number])
        assert np.array_equal(alone[1][0], similarities[number])


@pytest.mark.parametrize("engine", ENGINES)
def test_no_queries_one_vector_and_what_makes_no_sense(engine: Callable[[Vectors], Searcher]) -> None:
    searcher = engine(np.array([[-1, 0]], dtype=np.float32))

    assert len(searcher) == 1
    assert searcher.search(np.zeros((0, 2), np.float32), 3)[0].shape == (0, 1)
    # What rounds to nothing has no sign: -0.0 would be shown as such.
    assert str(searcher.search(np.array([[1e-7, 0]], np.float32), 1)[1].tolist()) == "[[0.0]]"
    with pytest.raises(ValueError, match="k must be at least 1, found 0"):
        searcher.search(np.zeros((1, 2), np.float32), 0)
    with pytest.raises(ValueError, match=r"queries must be \[num_queries, 2\], found \[1, 3\]"):
        searcher.search(np.zeros((1, 3), np.float32), 1)
