"""Search: exact search against arithmetic, and every engine against exact search, ties included."""

from collections.abc import Callable

import numpy as np
import pytest

from udr.encoder import Vectors
from udr.errors import InvalidInputError
from udr.faiss_search import FaissSearch
from udr.search import ExactProposals, ExactSearch, Positions, RankedProposals, Searcher


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


def test_more_than_an_engine_can_propose_is_refused() -> None:
    vectors = unit(100, 4, seed=0)
    for searcher in (
        limited(vectors),
        RankedProposals(ExactSearch(vectors)._propose, vectors, ExactSearch(vectors), 4, 64),
    ):
        with pytest.raises(InvalidInputError, match=r"k must be at most 64 on this device, .* found 65"):
            searcher.search(vectors[:1], 65)
        assert len(searcher) == 100


def test_half_precision_is_searched_as_the_numbers_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.faiss_search.BLOCK", 70)
    halves, queries = unit(300, 16, seed=2).astype(np.float16), unit(9, 16, seed=3)

    exact, found = ExactSearch(halves.astype(np.float32)).search(queries, 90), FaissSearch(halves).search(queries, 90)

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
