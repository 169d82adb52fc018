"""Selection against brute force: bounds, near copies, diversity and balance, alone and together."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fakes import HashEncoder
from tests.udr.retrieval.conftest import note, open_pools
from udr.data import encoder_demonstration, open_collection, row_query
from udr.retrieval import Mode, RetrievalRequest, Retriever, SelectionOptions, choose, rounds, select
from udr.search import Hit, Vectors
from udr.types import Row

REQUEST = RetrievalRequest(input="", k=3)


def ids(similarities: Sequence[float], request: RetrievalRequest, **inputs: Any) -> str:
    """The ids of the chosen among hits a, b, c, ... of these similarities."""
    hits = [Hit("t", index, chr(97 + index), value) for index, value in enumerate(similarities)]
    selected = select(hits, request, **{"candidates": len(hits), **inputs})
    return "".join(hits[index].id for index in selected.chosen)


def test_bounds_include_similarities_as_shown() -> None:
    similarities = (0.900004, 0.9, 0.8, 0.7, 0.699996, 0.6)
    assert ids(similarities, replace(REQUEST, k=9, max_similarity=0.9, min_similarity=0.7)) == "abcde"
    assert ids(similarities, replace(REQUEST, k=9, max_similarity=0.89, min_similarity=0.71)) == "c"
    assert ids(similarities, replace(REQUEST, k=9, min_similarity=0.95)) == ""


def test_the_best_of_near_copies_is_kept() -> None:
    vectors = np.array([[1.0, 0], [2, 0.02], [0, 1], [0.01, 3], [1, 1]])
    similarities = (0.9, 0.8, 0.7, 0.6, 0.5)
    assert ids(similarities, replace(REQUEST, distinct=0.999), vectors=vectors) == "ace"
    assert ids(similarities, replace(REQUEST, distinct=0.7), vectors=vectors) == "ac"
    assert ids(similarities, REQUEST, vectors=vectors) == "abc"
    # A zero vector is like no other.
    assert ids((0.2, 0.1), replace(REQUEST, distinct=0.5), vectors=np.zeros((2, 3))) == "ab"


def distinct(vectors: NDArray[np.float64], threshold: float) -> dict[int, tuple[int, float] | None]:
    """For each vector None if it is kept, or the kept one that it is a near copy of and their cosine, by definition."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept: list[int] = []
    outcomes: dict[int, tuple[int, float] | None] = {}
    for index, unit in enumerate(units):
        cosines = [round(float(units[other] @ unit), 5) for other in kept]
        if cosines and max(cosines) >= threshold:
            outcomes[index] = kept[cosines.index(max(cosines))], max(cosines)
        else:
            outcomes[index] = None
            kept.append(index)
    return outcomes


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 0.99, 1.0])
def test_near_copies_over_many_blocks_are_those_of_the_definition(threshold: float) -> None:
    generator = np.random.default_rng(5)
    centres = generator.normal(size=(90, 6))
    vectors = centres[generator.integers(0, 90, 1100)] + generator.normal(size=(1100, 6)) * 0.1
    vectors[700:720] = vectors[100:120]
    outcomes = distinct(vectors, threshold)
    kept = [index for index, outcome in outcomes.items() if outcome is None]
    hits = [Hit("t", index, f"{index:04}", 1 - index / 2000) for index in range(1100)]
    for options in ({}, {"explain": True}, {"diversity": 0.5}, {"balance": True}):
        request = replace(REQUEST, k=25, distinct=threshold, **options)
        selected = select(hits, request, candidates=600, vectors=vectors, labels=["x", "y"] * 550)
        for index, dropped in selected.dropped.items():
            nearer, cosine = outcomes[index] or (-1, 0.0)
            reason = f"its cosine with '{nearer:04}', which is nearer, is {cosine:.5f}"
            assert dropped == ("distinct", reason)
        # It may stop when what is left is enough, and all that is explained is decided.
        assert list(selected.left) == (kept if request.balance else kept[: len(selected.left)])
        assert len(selected.left) >= min(len(kept), 600 if request.diversity else 25)
        assert not request.explain or {*selected.left, *selected.dropped} >= {*range(600)}
        assert options or list(selected.chosen) == kept[:25]


def marginal_relevance(
    similarities: NDArray[np.float64], vectors: NDArray[np.float64], k: int, diversity: float
) -> list[int]:
    """Maximal marginal relevance by its definition."""
    chosen: list[int] = []

    def worth(index: int) -> float:
        closest = max((float(vectors[index] @ vectors[other]) for other in chosen), default=0.0)
        relevance = float(similarities[index])
        return round((1 - diversity) * relevance - diversity * closest, 5) if chosen else relevance

    while len(chosen) < min(k, len(similarities)):
        left = [index for index in range(len(similarities)) if index not in chosen]
        chosen.append(max(left, key=lambda index: (worth(index), -index)))
    return chosen


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_diversity_is_maximal_marginal_relevance(seed: int, count: int, k: int, diversity: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = np.sort(np.round(generator.uniform(-1, 1, count), 5))[::-1]
    chosen = list(choose(similarities, range(count), k, diversity=diversity, vectors=vectors))
    assert chosen == marginal_relevance(similarities, vectors, k, diversity)
    if diversity == 0:
        assert chosen == list(range(min(k, count)))


@pytest.mark.parametrize(("diversity", "candidates", "expected"), [(1.0, 4, "ad"), (0.0, 4, "ab"), (1.0, 3, "ac")])
def test_diversity_weighs_unlikeness_among_the_candidates(diversity: float, candidates: int, expected: str) -> None:
    vectors = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    request = replace(REQUEST, k=2, diversity=diversity)
    assert ids((0.9, 0.8, 0.7, -0.5), request, vectors=vectors, candidates=candidates) == expected


def test_balance_chooses_the_best_of_each_label_in_rounds() -> None:
    similarities = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    assert ids(similarities, replace(REQUEST, k=7, balance=True), labels="xxxyxyz") == "adgbfce"
    assert ids(similarities, replace(REQUEST, k=2, balance=True), labels="xxxyxyz") == "ad"
    # With diversity, the worthiest within a round.
    vectors = np.array([[1.0, 0], [1, 0], [0.9, 0.1], [0, 1]])
    request = replace(REQUEST, k=2, balance=True, diversity=0.5)
    assert ids((0.9, 0.89, 0.88, 0.5), request, vectors=vectors, labels="xxyy") == "ad"


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9)), st.integers(1, 30))
def test_rounds_bound_the_choice_of_each_label(counts: dict[str, int], k: int) -> None:
    needed = rounds(Counter(counts), k)
    labels = [name for name, count in counts.items() for _ in range(count)]
    chosen = choose(np.zeros(len(labels)), range(len(labels)), k, labels=labels)
    taken = Counter(labels[index] for index in chosen)
    assert all(taken[name] <= needed[name] <= counts[name] for name in counts)
    assert sum(needed.values()) >= len(chosen) == min(k, len(labels))


WORDS = "river lake harbour island valley castle bridge forest meadow tower".split()
QUERY = "the river of the lake"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skewed")


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Retriever]:
    """A pool with one rare and far label, and many near copies."""
    rows = [note(f"g{n:03}", f"the {WORDS[n % 10]} of {WORDS[n // 10 % 10]} {n // 50}") for n in range(200)]
    rows += [note(f"s{n}", f"grim rain {n}", "sad") for n in range(5)]
    with open_pools(folder, {"notes": rows}, bm25=True) as retriever:
        yield retriever


@pytest.fixture(scope="module")
def ranked(folder: Path, opened: Retriever) -> tuple[list[Hit], NDArray[np.float64], list[str]]:
    """Every row of the pool, ranked for the query: hits, vectors and labels."""
    pool, encoder = open_collection(folder / "tasks").tasks["notes"].pool(), HashEncoder()
    (query,) = encoder.encode_queries([row_query(pool.task, Row(id="", input={"text": QUERY}, target=""))])
    vectors = encoder.encode_demonstrations([encoder_demonstration(pool.task, row) for row in pool.rows])
    similarities = [round(float(vector @ query), 5) for vector in vectors.astype(np.float64)]
    best = sorted(range(len(pool.rows)), key=lambda n: (-similarities[n], pool.rows[n].id))
    hits = [Hit("notes", n, pool.rows[n].id, similarities[n]) for n in best]
    return hits, vectors[best].astype(np.float64), [pool.rows[n].target for n in best]


OPTIONS: list[dict[str, Any]] = [
    {"balance": True},
    {"balance": True, "exclude": ("s0", "s1")},
    {"exclude": ("g000", "g010", "no such id", "x\0y'\"")},
    {"min_similarity": 0.3},
    {"balance": True, "min_similarity": 0.3},
    {"balance": True, "diversity": 0.4, "candidates": 205},
    {"balance": True, "distinct": 0.95},
    {"distinct": 0.8},
    {"distinct": 0.3},
    {"distinct": 0.0},
    {"diversity": 0.5, "candidates": 205},
    {"diversity": 1.0, "candidates": 205},
    {"max_similarity": 0.5},
    {"max_similarity": 0.2, "min_similarity": 0.1},
    {"max_similarity": 0.6, "distinct": 0.9, "diversity": 0.2, "candidates": 205, "balance": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("k", [1, 4, 14])
def test_a_search_is_as_deep_as_the_choice_needs(
    opened: Retriever, ranked: tuple[list[Hit], NDArray[np.float64], list[str]], options: dict[str, Any], k: int
) -> None:
    request = RetrievalRequest(input=QUERY, task="notes", k=k, **options)
    hits, vectors, labels = ranked
    left = [index for index, hit in enumerate(hits) if hit.id not in request.exclude]
    inputs: dict[str, Any] = {"vectors": vectors[left], "labels": [labels[index] for index in left]}
    selected = select([hits[index] for index in left], request, candidates=205, **inputs)
    expected = [(selected.hits[index].id, selected.hits[index].similarity) for index in selected.chosen]
    assert [(d.id, d.similarity) for d in opened.retrieve_batch([request])[0]] == expected


@pytest.mark.parametrize("mode", get_args(Mode))
def test_balance_includes_a_rare_label_in_every_mode(opened: Retriever, mode: Mode) -> None:
    retrieval = opened.retrieve("notes", "the river of the grim lake", 6, balance=True, mode=mode)
    targets = [d.target for d in retrieval]
    assert targets in (["glad", "sad"] * 3, ["sad", "glad"] * 3)
    assert [d.rank for d in retrieval] == [1, 2, 3, 4, 5, 6]


def test_a_search_has_a_maximum_depth_and_may_find_nothing(opened: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = opened.retrieve("notes", QUERY, 50, keep_copies=True)[49].similarity - 0.00001
    assert len(opened.retrieve("notes", QUERY, 12, max_similarity=bound)) == 12
    monkeypatch.setattr("udr.retrieval.executor.DEEPEST", 50)
    assert len(opened.retrieve("notes", QUERY, 12, max_similarity=bound)) == 0
    assert len(opened.retrieve("notes", "zebra", 3, mode="bm25", distinct=0.9, balance=True)) == 0


def test_batches_and_explanations_do_not_change_the_choice(opened: Retriever) -> None:
    requests = [
        RetrievalRequest(input=f"the {word} of rain", task="notes", k=5, **options)
        for word in WORDS[:2]
        for options in [*OPTIONS, {"mode": "bm25"}, {"mode": "hybrid"}]
    ]
    requests = [replace(each, candidates=each.candidates or 60) if each.chooses else each for each in requests]
    plain = opened.retrieve_batch(requests)
    assert plain == [opened.retrieve_batch([request])[0] for request in requests]
    explained = opened.retrieve_batch([replace(request, explain=True) for request in requests])
    assert [d.demonstrations for d in explained] == [d.demonstrations for d in plain]
    assert all(d.decisions for d in explained) and not any(d.decisions for d in plain)


def test_keep_copies_returns_copies_of_the_query(opened: Retriever) -> None:
    copy = "the river of river 0"
    assert "g000" not in [d.id for d in opened.retrieve("notes", copy, 5)]
    assert opened.retrieve("notes", copy, 5, keep_copies=True)[0].id == "g000"
    assert opened.retrieve("notes", copy, 5, keep_copies=True, max_similarity=0.9)[0].id != "g000"


def test_explain_gives_each_candidate_a_stage_and_a_reason(opened: Retriever) -> None:
    options = SelectionOptions(exclude=("g020",), max_similarity=0.72, min_similarity=0.2, distinct=0.97, explain=True)
    retrieval = opened.retrieve("notes", "the river of river 0", 3, **options)

    decisions = retrieval.decisions
    (copy,) = [d for d in decisions if d.id == "g000"]
    assert copy.stage == "copies" and "ignoring case, spaces" in copy.reason
    (excluded,) = [d for d in decisions if d.id == "g020"]
    assert (excluded.stage, excluded.kept, excluded.reason) == ("exclude", False, "its id is excluded")
    assert {d.stage for d in decisions} >= {"copies", "choice", "max_similarity"}
    assert [d.id for d in decisions if d.kept] == [d.id for d in retrieval]
    assert all(d.stage == "choice" for d in decisions if d.kept)
    assert [d.similarity for d in decisions] == sorted((d.similarity for d in decisions), reverse=True)
    assert list(copy.to_json()) == ["id", "task", "similarity", "stage", "kept", "reason"]
    assert retrieval.to_json()["decisions"] == [d.to_json() for d in decisions]
    assert len([d for d in decisions if not d.kept]) == 50


def test_asynchronous_methods_return_the_same_without_blocking(folder: Path, opened: Retriever) -> None:
    released = threading.Event()
    request = RetrievalRequest(input="the river", task="notes", k=3)

    class WaitingEncoder(HashEncoder):
        def encode_queries(self, texts: Sequence[str]) -> Vectors:
            assert released.wait(10), "the event loop is blocked"
            return super().encode_queries(texts)

    async def retrieve(retriever: Retriever) -> tuple[Any, Any]:
        task = asyncio.create_task(retriever.aretrieve("notes", "the river", 3))
        await asyncio.sleep(0)
        released.set()
        return await task, await retriever.aretrieve_batch([request])

    with Retriever.open(folder / "index", encoder=WaitingEncoder()) as retriever:
        retrieval, batch = asyncio.run(retrieve(retriever))

    assert [retrieval] == batch == opened.retrieve_batch([request])
