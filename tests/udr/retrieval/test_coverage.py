"""Coverage: the greedy set by brute force, the best set of all, and what an index makes of words and label heads."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.fakes import HashEncoder
from tests.udr.retrieval.conftest import OpenPools, note
from udr.errors import InvalidInputError, StoppedError
from udr.retrieval import Aspects, Retriever, choose
from udr.search import BM25Search, weigh


def made_up(seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Aspects]:
    """Similarities, vectors and aspects of hits; words are sparse, labels few."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 4))
    words = generator.uniform(0, 3, (count, 5)) * (generator.uniform(size=(count, 5)) < 0.4)
    codes = generator.integers(0, 3, count)
    chances = generator.dirichlet(np.ones(3))[codes]
    similarities = np.sort(np.round(generator.uniform(0, 1, count), 5))[::-1]
    return similarities, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), Aspects(words, chances, codes)


def covered(aspects: Aspects, chosen: list[int]) -> float:
    """What a set covers: the value of which ``choose`` takes marginal gains."""
    total = aspects.words.max(axis=0).sum()
    words = aspects.words[chosen].max(axis=0).sum() / total if chosen and total else 0.0
    labels = 0.0
    for code in set(aspects.codes[chosen].tolist()):
        own = [index for index in chosen if aspects.codes[index] == code]
        labels += aspects.chances[own[0]] * sum(1 / number for number in range(1, len(own) + 1))
    return float(words + labels)


WEIGHTS = [(coverage, diversity) for coverage in (0.1, 0.5, 1.0) for diversity in (0.0, 0.3)]


@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 6), st.sampled_from(WEIGHTS))
def test_each_choice_adds_most_to_those_before(seed: int, count: int, k: int, weights: tuple[float, float]) -> None:
    coverage, diversity = weights
    similarities, vectors, aspects = made_up(seed, count)
    compared = vectors if diversity else None
    weighed = partial(choose, coverage=coverage, diversity=diversity)
    chosen = list(weighed(similarities, range(count), k, vectors=compared, aspects=aspects))
    assert len(set(chosen)) == len(chosen) == min(k, count)

    def worth(index: int, before: list[int]) -> float:
        own = float(similarities[index])
        if before:
            own = (1 - diversity) * own - diversity * max(float(vectors[index] @ vectors[other]) for other in before)
        return (1 - coverage) * own + coverage * (covered(aspects, [*before, index]) - covered(aspects, before))

    for number, index in enumerate(chosen):
        before = chosen[:number]
        worths = {other: worth(other, before) for other in range(count) if other not in before}
        # Rounded to 5 decimals, ties to the nearer.
        assert worths[index] >= max(worths.values()) - 2e-5


@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(1, 4))
def test_the_set_is_nearly_as_good_as_the_best_of_all(seed: int, count: int, k: int) -> None:
    similarities, _, aspects = made_up(seed, count)

    def value(chosen: tuple[int, ...]) -> float:
        return 0.5 * float(similarities[list(chosen)].sum()) + 0.5 * covered(aspects, list(chosen))

    chosen = tuple(choose(similarities, range(count), k, coverage=0.5, aspects=aspects))
    best = max(map(value, itertools.combinations(range(count), min(k, count))))
    assert value(chosen) >= (1 - 1 / np.e) * best - 1e-4


def test_places_go_to_labels_by_their_probabilities_as_seats_by_votes() -> None:
    chances = {"a": 0.6, "b": 0.3, "c": 0.1}
    codes = np.array([0] * 9 + [1] * 9 + [2] * 9)
    aspects = Aspects(np.zeros((27, 0)), np.array([*chances.values()])[codes], codes)
    chosen = list(choose(np.linspace(0.9, 0.5, 27), range(27), 10, coverage=1.0, aspects=aspects))
    assert np.bincount(codes[chosen]).tolist() == [6, 3, 1]
    # By hand: 0.6 and its half, third, ... to a sixth, 0.3 and its half and third, and 0.1; ties go to the nearer.
    assert codes[chosen].tolist()[:6] == [0, 0, 1, 0, 0, 1]


def test_without_coverage_or_by_a_stopped_request_nothing_changes_or_is_chosen() -> None:
    similarities, _, aspects = made_up(3, 8)
    assert list(choose(similarities, range(8), 5, coverage=0.0, aspects=aspects)) == [0, 1, 2, 3, 4]
    with pytest.raises(StoppedError):
        choose(similarities, range(8), 5, coverage=0.5, aspects=aspects, stopped=lambda: True)


def test_the_parts_of_words_add_up_to_the_score() -> None:
    texts = ["a river and a lake", "river river", "no match", "the lake of a river, a lake"]
    search = BM25Search(texts)
    query = weigh("a river, a lake, zzz", [search])
    words = [*query.weights, "zzz"]
    parts = search.word_scores(query, words, np.array([3, 0, 2, 1]))
    scores = dict(search.nearest(query, 4))
    assert parts.shape == (4, 4) and (parts[:, -1] == 0).all()
    assert parts.sum(axis=1).round(5).tolist() == [scores.get(position, 0.0) for position in (3, 0, 2, 1)]


@pytest.fixture
def opened(pools: OpenPools) -> Retriever:
    words = ("red", "blue", "green", "grey")
    rows = [
        note(f"{a}{b}{n}", f"{words[a]} {words[b]} thing {n}", ("glad", "sad")[(a + n) % 2])
        for a in range(4)
        for b in range(4)
        for n in range(4)
    ]
    return pools({"notes": rows}, bm25=True, label_head=True)


def test_an_index_covers_the_query_s_words(opened: Retriever) -> None:
    query = "red blue green grey"
    plain = opened.retrieve("notes", query, 2, label_head=False)
    chosen = opened.retrieve("notes", query, 2, coverage=0.9, candidates=64, label_head=False, explain=True)
    assert {word for item in chosen for word in item.text.split() if word in query} == set(query.split())
    nothing = opened.retrieve("notes", query, 2, coverage=0.0, label_head=False)
    assert nothing.demonstrations == plain.demonstrations
    (second,) = [decision for decision in chosen.decisions if decision.kept and decision.id == chosen[1].id]
    assert second.reason.startswith("number 2, worth ") and "to what those chosen before cover" in second.reason


def test_a_label_head_hands_out_places(opened: Retriever) -> None:
    query = "red blue thing 3"
    alone = [item.target for item in opened.retrieve("notes", query, 8)]
    shared = [item.target for item in opened.retrieve("notes", query, 8, coverage=1.0, candidates=64)]
    assert len(set(shared)) == 2 and max(map(shared.count, shared)) <= max(map(alone.count, alone))
    balanced = opened.retrieve("notes", query, 8, coverage=1.0, balance=True)
    assert [item.target for item in balanced].count("glad") == 4
    assert len(opened.retrieve(family="mood", input=query, k=3, coverage=0.5)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 0.5, "mode": "hybrid"}, "coverage weighs the encoder's similarities, so mode must be 'dense'"),
        ({"coverage": 1.5}, "coverage must be from 0 to 1, found 1.5"),
    ],
)
def test_invalid_requests_are_refused(opened: Retriever, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        opened.retrieve("notes", "red", 2, **options)


def test_an_index_without_bm25_is_refused(pools: OpenPools) -> None:
    with pytest.raises(InvalidInputError, match="coverage reads words, so it needs an index with BM25"):
        pools({"notes": [note("1", "red"), note("2", "blue")]}, bm25=False).retrieve("notes", "red", 1, coverage=0.5)


def test_an_index_whose_similarities_have_no_bound_is_refused(pools: OpenPools) -> None:
    """Beside dot products around 100, what hits add is nothing: whatever the coverage, the nearest were chosen."""
    by_dot = pools({"notes": [note("1", "red"), note("2", "blue")]}, bm25=True, encoder=HashEncoder(metric="dot"))
    for coverage in (0.0, 0.5, 1.0):
        with pytest.raises(InvalidInputError, match="needs an encoder that compares by cosine; that of this index"):
            by_dot.retrieve("notes", "red", 1, coverage=coverage)
    assert by_dot.retrieve("notes", "red", 1, diversity=0.5)
