"""Search among the rows that pass a filter, at any share of them: compared with the same search of only these rows."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.udr.search.test_exact import assert_equal, unit
from udr.search import (
    BM25Search,
    ExactLabelled,
    ExactProposals,
    ExactSearch,
    FaissSearch,
    LabelHead,
    LabelledSearch,
    Mask,
    RankedProposals,
    Searcher,
    Vectors,
    float16_proposer,
    make_index,
    proposer,
    proposer_among,
    set_parameters,
    weigh,
)

SHARES = [0.0, 0.002, 0.05, 0.2, 0.3, 0.5, 0.95, 1.0]


def half(vectors: Vectors) -> Searcher:
    stored = vectors.astype(np.float16)
    return ExactProposals(float16_proposer(stored), stored)


def limited(vectors: Vectors) -> Searcher:
    """Return a search by an engine that proposes at most 64, as engines on GPUs have a limit."""
    return ExactProposals(ExactSearch(vectors).propose, vectors, limit=64)


def every_list(scanned: int) -> Callable[[Vectors], Searcher]:
    """Return an IVF search that looks into all lists, so that it finds what exact search does."""

    def engine(vectors: Vectors) -> Searcher:
        index = make_index("IVF8,Flat", vectors, sample=1000, threads=1)
        set_parameters(index, "nprobe=8")
        return RankedProposals(proposer(index), vectors, FaissSearch(vectors), 2, scanned=scanned)

    return engine


ENGINES = [ExactSearch, FaissSearch, half, limited, every_list(0), every_list(100)]


def masks(count: int) -> list[Mask]:
    draw = np.random.default_rng(3)
    return [draw.random(count) < share for share in SHARES]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [1, 9, 300, 2000])
def test_results_are_those_of_the_rows_that_pass(engine: Callable[[Vectors], Searcher], k: int) -> None:
    vectors, queries = unit(1000, 12, seed=0), unit(5, 12, seed=1)
    # Ties.
    vectors[200:300] = vectors[200]
    searcher = engine(vectors)
    for rows in masks(1000):
        positions = np.flatnonzero(rows)
        found = searcher.search(queries, k, rows)
        assert found[0].shape == found[1].shape == (5, min(k, len(positions)))
        if len(positions):
            expected, similarities = ExactSearch(searcher.vectors[positions].astype(np.float32)).search(queries, k)
            assert_equal(found, (positions[expected], similarities))


@pytest.mark.parametrize("engine", ENGINES)
def test_k_come_back_if_the_rows_that_pass_are_the_farthest(engine: Callable[[Vectors], Searcher]) -> None:
    vectors, query = unit(1000, 12, seed=0), unit(1, 12, seed=1)
    farthest = np.argsort(vectors @ query[0])[:400]
    rows = np.zeros(1000, bool)
    rows[farthest] = True
    positions, _ = engine(vectors).search(query, 10, rows)
    assert sorted(positions[0].tolist()) == sorted(farthest[-10:].tolist())


@pytest.mark.parametrize("kind", ["IVF64,Flat", "PCA10,IVF64,Flat", "IVF64,SQ8"])
def test_lists_find_no_less_among_some_rows_than_among_all(kind: str) -> None:
    draw, k = np.random.default_rng(5), 10
    centres = draw.standard_normal((40, 12), np.float32)
    owners = (draw.integers(0, 40, count) for count in (8000, 60))
    vectors, queries = (centres[of] + draw.standard_normal((len(of), 12), np.float32) for of in owners)
    index = make_index(kind, vectors, sample=8000, threads=1)
    set_parameters(index, "nprobe=6")
    among, scanned = proposer_among(index) or pytest.fail("it has lists")
    assert scanned == max(1024, 8000 * 6 // 64 // 2)
    exact = FaissSearch(vectors)
    searcher = RankedProposals(proposer(index), vectors, exact, 4, among=among, scanned=scanned)

    def recall(rows: Mask) -> float:
        (found, _), (best, _) = searcher.search(queries, k, rows), exact.search(queries, k, rows)
        return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(found, best, strict=True)]))

    found, best = searcher.search(queries, k)[0], exact.search(queries, k)[0]
    plain = float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(found, best, strict=True)]))
    assert plain < 0.95
    for share in (0.5, 0.3, 0.15):
        assert recall(draw.random(8000) < share) > plain
    few = np.zeros(8000, bool)
    few[draw.choice(8000, scanned, replace=False)] = True
    assert recall(few) == 1


def test_an_index_without_lists_searches_among_some_rows_as_among_all() -> None:
    assert proposer_among(make_index("HNSW8", unit(100, 12, seed=0), sample=100, threads=1)) is None


def test_a_label_head_ranks_the_rows_that_pass() -> None:
    vectors, queries = unit(1000, 12, seed=0), unit(5, 12, seed=1)
    draw = np.random.default_rng(0)
    weights, codes = draw.normal(size=(3, 13)), draw.integers(-1, 3, 1000).astype(np.int32)
    head = LabelHead(weights, codes, 0.7, 4)
    searcher = LabelledSearch(FaissSearch(vectors), ExactLabelled(vectors, head), head)
    for rows in masks(1000)[1:]:
        positions = np.flatnonzero(rows)
        only = LabelHead(weights, codes[positions], 0.7, 4)
        expected, numbers = ExactLabelled(vectors[positions], only).search(
            head.extend(queries, head.probabilities(queries)), 9
        )
        assert_equal(
            searcher.search_with_head(queries, head.probabilities(queries), 9, rows), (positions[expected], numbers)
        )
        plain, similarities = ExactSearch(vectors[positions]).search(queries, 9)
        assert_equal(searcher.search(queries, 9, rows), (positions[plain], similarities))


def test_bm25_scores_as_if_there_were_only_the_rows_that_pass() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{n}" for n in range(30)]
    texts = [" ".join(draw.choice(words, draw.integers(1, 9))) for _ in range(400)]
    search = BM25Search(texts)
    for rows in masks(400):
        positions = np.flatnonzero(rows)
        only = BM25Search([texts[position] for position in positions])
        for query in ("w1 w2 w2 w7", "w3", "none"):
            found = search.nearest(weigh(query, [search], [rows]), 20, rows)
            ((*expected,),) = only.search([query], 20)
            assert found == [(int(positions[position]), score) for position, score in expected]


def test_rows_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows must be bool \[20\], found bool \[19\]"):
        ExactSearch(unit(20, 4, seed=0)).search(unit(1, 4, seed=1), 3, np.ones(19, bool))
